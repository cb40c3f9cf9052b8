"""What a dialect is made of: how it is read, which job it asks for, how it is answered."""

from abc import ABC, abstractmethod
from typing import Any

from typing_extensions import TypedDict

from api.dialects.asking import Ranked
from api.dialects.lenient import Lenient


class Tokens(TypedDict):
    """Of all that was ranked, the query with each document."""

    prompt_tokens: int
    total_tokens: int


class Form(Lenient, ABC):
    """A request to rank documents, as one family of clients writes it."""

    model: str | None = None

    @abstractmethod
    def read_documents(self) -> list[str]:
        """What is to be read of each document. Raises `InvalidRequest`."""

    @abstractmethod
    def job(self, documents: list[str]) -> dict[str, Any]:
        """Fields of `JobRequest`, but for the model."""

    @abstractmethod
    def answer(self, documents: list[str], ranked: Ranked) -> Any:
        """What this family of clients reads. Raises `Unscored` where it can't leave a document out."""

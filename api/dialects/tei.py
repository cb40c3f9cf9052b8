"""Text Embeddings Inference's rerank: https://huggingface.github.io/text-embeddings-inference"""

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from api.dialects.asking import Ranked
from api.dialects.form import Form
from api.dialects.lenient import Flag, Query
from jobs.model import Overflow


class TeiRerank(Form):
    """`texts` in place of `documents`: Text Embeddings Inference's client asks."""

    query: Query
    texts: Annotated[list[str], Field(min_length=1)]
    return_text: Flag = False
    raw_scores: Flag = Field(False, description="the model's own score, whatever its kind")
    truncate: Flag = False

    def read_documents(self) -> list[str]:
        return self.texts

    def job(self, documents: list[str]) -> dict[str, Any]:
        overflow = Overflow.TRUNCATE if self.truncate else Overflow.ERROR
        return {"query": self.query, "documents": documents, "overflow": overflow}

    def answer(self, documents: list[str], ranked: Ranked) -> "list[TeiScore]":
        """All texts: one without a score is the request's error, since this form has no place for it."""
        scores = dict(ranked.all())
        if self.raw_scores:
            scores = {entry.index: float(entry.relevance_score or 0) for entry in ranked.result.results}
        found: list[TeiScore] = [{"index": index, "score": score} for index, score in scores.items()]
        if self.return_text:
            for entry in found:
                entry["text"] = documents[entry["index"]]
        return found


class TeiScore(TypedDict):
    index: int
    score: float
    text: NotRequired[str]

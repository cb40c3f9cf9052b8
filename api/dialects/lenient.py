"""What clients of other services send, read as they mean it: null is absent, unknown fields are ignored."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import InvalidRequest

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def _flag(value: Any) -> Any:
    """Query-string habits: `"true"` for true."""
    text = value.strip().lower() if isinstance(value, str) else None
    return True if text in TRUE else False if text in FALSE else value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


Flag = Annotated[bool, BeforeValidator(_flag, json_schema_input_type=bool | str)]

Count = Annotated[int, Field(ge=0, description="0: all")]

GivenDocument = str | dict[str, Any]

Documents = Annotated[
    list[GivenDocument],
    BeforeValidator(_one_or_more, json_schema_input_type=str | list[GivenDocument]),
    Field(min_length=1, description="texts, or objects with a `text`; one text may stand alone"),
]


class Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: given for name, given in value.items() if given is not None}


Asked = TypeVar("Asked", bound=BaseModel)


def read(kind: type[Asked], body: dict[str, Any]) -> Asked:
    """The body as `kind`. Raises `InvalidRequest` that names the first field that can't be read."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"{field}: {first['msg']}" if field else first["msg"], field=field) from None


def texts_of(
    documents: Sequence[GivenDocument], rank_fields: Sequence[str] = (), field: str = "documents"
) -> list[str]:
    """What is to be read of each document: itself, its `text`, or its `rank_fields`, one on each line.

    Raises `InvalidRequest`.
    """
    found = []
    for index, document in enumerate(documents):
        if isinstance(document, str):
            found.append(document)
            continue
        fields = [document[name] for name in rank_fields or ("text",) if document.get(name) is not None]
        if not fields or (not rank_fields and not isinstance(fields[0], str)):
            wanted = "one of " + ", ".join(rank_fields) if rank_fields else "text"
            raise InvalidRequest(f"{field}.{index} has no {wanted}", field=f"{field}.{index}")
        found.append("\n".join(str(value) for value in fields))
    return found

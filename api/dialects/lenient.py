"""What clients of other services send, read as they mean it: null is absent, unknown fields are ignored."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from api.schemas import SOMETHING, whole
from jobs.errors import InvalidRequest

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def _flag(value: Any) -> Any:
    """Habits of query strings and other languages: `"true"` and 1 for true."""
    text = value.strip().lower() if isinstance(value, str) else None
    if text in TRUE or value == 1:
        return True
    return False if text in FALSE or value == 0 else value


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return whole(value)


NULL = {"type": "null"}

Flag = Annotated[
    bool,
    BeforeValidator(_flag),
    Field(strict=True),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": [*TRUE, *FALSE, "True", "False", 1, 0]}]}),
]

DIGITS: JsonSchemaValue = {"type": "string", "pattern": "^[0-9]{1,9}$"}

Whole = Annotated[int, BeforeValidator(_number), WithJsonSchema({"anyOf": [{"type": "integer"}, DIGITS]})]

TokenBound = Annotated[
    int,
    BeforeValidator(_number),
    Field(
        ge=-1,
        description="of all that is read at once; only the document is cut; -1 or 0: what the model can",
    ),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": -1}, DIGITS]}),
]

Count = Annotated[
    int,
    BeforeValidator(_number),
    Field(ge=0, description="0: all"),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, DIGITS]}),
]

Query = Annotated[str, Field(json_schema_extra={"pattern": SOMETHING})]

GivenDocument = str | dict[str, Any]

OneOrMore = Annotated[list[GivenDocument], BeforeValidator(_one_or_more), Field(min_length=1)]


def _described(text: JsonSchemaValue, what: str) -> WithJsonSchema:
    one = [text, {"type": "object", "properties": {"text": text}, "required": ["text"]}]
    many = {"type": "array", "items": {"anyOf": one}, "minItems": 1}
    return WithJsonSchema({"anyOf": [*one, many], "description": f"{what} One may stand alone."})


Documents = Annotated[
    OneOrMore, _described({"type": "string"}, "Texts, or objects with a `text` (or with `rank_fields`).")
]

Queries = Annotated[
    OneOrMore, _described({"type": "string", "pattern": SOMETHING}, "Texts, or objects with a `text`.")
]


class Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: given for name, given in value.items() if given is not None}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler(schema)
        whole = handler.resolve_ref_schema(described)
        for name, field in whole.get("properties", {}).items():
            if name not in whole.get("required", ()):
                about = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
                kinds = [kind for kind in field.get("anyOf", [field]) if kind != NULL]
                whole["properties"][name] = {"anyOf": [*kinds, NULL], **about}
        return described


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

    One that has none of the `rank_fields` is read as its `text`. Raises `InvalidRequest`.
    """
    found = []
    for index, document in enumerate(documents):
        if isinstance(document, str):
            found.append(document)
            continue
        fields = [document[name] for name in rank_fields if document.get(name) is not None]
        if not fields and not isinstance(document.get("text"), str):
            wanted = f"none of {', '.join(rank_fields)} and no text" if rank_fields else "no text"
            raise InvalidRequest(f"{field}.{index} has {wanted}", field=f"{field}.{index}")
        found.append("\n".join(map(str, fields)) if fields else document["text"])
    return found

"""vLLM's score: pairs of texts, each with its score, in the order of the request.

https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from typing import Any, Literal

from pydantic import AliasChoices, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from api.dialects.asking import Ranked
from api.dialects.form import Tokens
from api.dialects.lenient import NULL, Count, Documents, Lenient, Queries, TokenBound, Whole, texts_of
from jobs.errors import InvalidRequest
from jobs.model import Lane

QUERIES_AT_MOST = 256
"""Different first texts of one request: each is a job of its own."""


FIRST = ("text_1", "queries", "data_1")
SECOND = ("text_2", "documents", "items", "data_2")
"""What the two texts of a pair are called; one name of each is given."""


class ScoreRequest(Lenient):
    """One first text with each of the second ones, or each with its own."""

    first: Queries = Field(validation_alias=AliasChoices(*FIRST))
    second: Documents = Field(validation_alias=AliasChoices(*SECOND))
    model: str | None = None
    max_tokens_per_doc: Count = 0
    truncate_prompt_tokens: TokenBound = -1
    priority: Whole = Field(0, description="above 0: less urgent, it waits with the bulk jobs")
    instruction: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_one_name(cls, value: Any) -> Any:
        for names in (FIRST, SECOND):
            given = [name for name in names if isinstance(value, dict) and value.get(name) is not None]
            if len(given) > 1:
                raise ValueError(f"give only one of {', '.join(given)}")
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = super().__get_pydantic_json_schema__(schema, handler)
        whole = handler.resolve_ref_schema(described)
        properties, whole["allOf"] = whole["properties"], []
        for names in (FIRST, SECOND):
            whole["required"].remove(names[0])
            given = properties[names[0]]
            properties |= {
                name: {"anyOf": [*given["anyOf"], NULL], "description": given["description"]}
                for name in names
            }
            one = [{"required": [name], "properties": {name: given}} for name in names]
            whole["allOf"].append({"oneOf": one})
        return described

    def by_query(self) -> dict[str, list[tuple[int, str]]]:
        """The (place in the request, second text) of each first one. Raises `InvalidRequest`."""
        first, second = texts_of(self.first, field="text_1"), texts_of(self.second, field="text_2")
        if len(first) == 1:
            first *= len(second)
        if len(first) != len(second):
            raise InvalidRequest(
                f"{len(first)} first texts for {len(second)} second ones: give one, or one for each",
                field="text_1",
            )
        found: dict[str, list[tuple[int, str]]] = {}
        for place, (query, text) in enumerate(zip(first, second, strict=True)):
            found.setdefault(query, []).append((place, text))
        if len(found) > QUERIES_AT_MOST:
            raise InvalidRequest(
                f"{len(found)} different first texts; at most {QUERIES_AT_MOST} in one request",
                field="text_1",
            )
        return found

    def job(self, query: str, documents: list[str]) -> dict[str, Any]:
        return {
            "model": self.model,
            "query": query,
            "documents": documents,
            "max_tokens_per_doc": self.max_tokens_per_doc or None,
            "max_tokens_per_pair": max(self.truncate_prompt_tokens, 0) or None,
            "instruction": self.instruction,
            "lane": Lane.BULK if self.priority > 0 else Lane.INTERACTIVE,
        }


class PairScore(TypedDict):
    index: int
    object: Literal["score"]
    score: float


class ScoreUsage(Tokens):
    completion_tokens: int


class ScoreAnswer(TypedDict):
    """A score for each pair, in the order of the request."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[PairScore]
    usage: ScoreUsage


def answer(asked: dict[str, list[tuple[int, str]]], ranked: list[Ranked]) -> ScoreAnswer:
    """`ranked`: one for each query. Raises `Unscored`: this form has no place for a pair without a score."""
    scores: dict[int, float] = {}
    for pairs, one in zip(asked.values(), ranked, strict=True):
        scores |= {pairs[index][0]: score for index, score in one.all()}
    tokens = sum(one.tokens for one in ranked)
    first = ranked[0].job
    return {
        "id": first.id,
        "object": "list",
        "created": int(first.created_at),
        "model": first.model,
        "data": [{"index": place, "object": "score", "score": scores[place]} for place in sorted(scores)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
    }

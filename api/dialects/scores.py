"""vLLM's score: pairs of texts, each with its score, in the order of the request.

https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from typing import Annotated, Any

from pydantic import AliasChoices, Field

from api.dialects.asking import Ranked
from api.dialects.lenient import Documents, Lenient, texts_of
from jobs.errors import InvalidRequest
from jobs.model import Lane

QUERIES_AT_MOST = 256
"""Different first texts of one request: each is a job of its own."""


class Score(Lenient):
    """One first text with each of the second ones, or each with its own."""

    first: Documents = Field(validation_alias=AliasChoices("text_1", "queries", "data_1"))
    second: Documents = Field(validation_alias=AliasChoices("text_2", "documents", "items", "data_2"))
    model: str | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    priority: int = Field(0, description="above 0: less urgent, it waits with the bulk jobs")
    instruction: str | None = None

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
            "max_tokens_per_doc": self.max_tokens_per_doc,
            "instruction": self.instruction,
            "lane": Lane.BULK if self.priority > 0 else Lane.INTERACTIVE,
        }


def answer(asked: dict[str, list[tuple[int, str]]], ranked: list[Ranked]) -> dict[str, Any]:
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

"""Cohere's rerank, v1 and v2; Jina's, vLLM's and what is called OpenAI-like are the same form.

https://docs.cohere.com/reference/rerank, https://jina.ai/reranker
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from api.dialects.asking import Ranked, unit
from api.dialects.form import Form, Tokens
from api.dialects.lenient import Count, Documents, Flag, Lenient, Query, TokenBound, Whole, texts_of
from api.schemas import Text
from jobs.model import Lane, Overflow

SEARCH_UNIT = 100
"""Documents of one query that Cohere bills as one unit."""


class RelevantSpans(Lenient):
    """Whether to show the part of a long document that has made its score: the best one, and no other."""

    mode: Literal["enabled", "disabled"]
    threshold: Annotated[float, Field(strict=True)] = Field(
        0.1, description="spans with a lower score are left out"
    )


class CohereRerank(Form):
    """`documents`, ranked. Cohere, Jina, vLLM and many more ask so."""

    query: Query
    documents: Documents
    top_n: Count = 0
    return_documents: Flag = False
    rank_fields: list[Text] = Field([], description="fields of a document that are read, one on each line")
    max_tokens_per_doc: Count = 0
    truncate_prompt_tokens: TokenBound = -1
    relevant_spans: RelevantSpans | None = Field(
        None, description="enabled: a long document is read in windows, and the best one is shown"
    )
    priority: Whole = Field(0, description="above 0: less urgent, it waits with the bulk jobs")
    instruction: str | None = None

    @property
    def shows_spans(self) -> bool:
        return self.relevant_spans is not None and self.relevant_spans.mode == "enabled"

    def read_documents(self) -> list[str]:
        return texts_of(self.documents, self.rank_fields)

    def job(self, documents: list[str]) -> dict[str, Any]:
        return {
            "query": self.query,
            "documents": documents,
            "top_n": self.top_n or None,
            "max_tokens_per_doc": self.max_tokens_per_doc or None,
            "max_tokens_per_pair": max(self.truncate_prompt_tokens, 0) or None,
            "overflow": Overflow.CHUNK if self.shows_spans else Overflow.TRUNCATE,
            "instruction": self.instruction,
            "lane": Lane.BULK if self.priority > 0 else Lane.INTERACTIVE,
        }

    def answer(self, documents: list[str], ranked: Ranked) -> "CohereAnswer":
        """`data` says the same in Voyage's words: without `top_n` its clients can't be told from Cohere's."""
        spans = self._spans(ranked)
        results: list[CohereResult] = []
        data: list[CohereData] = []
        for index, score in ranked.results:
            results.append({"index": index, "relevance_score": score})
            data.append({"index": index, "relevance_score": score})
            if self.return_documents:
                results[-1]["document"] = {"text": documents[index]}
                data[-1]["document"] = documents[index]
            if index in spans:
                results[-1]["relevant_spans"] = [spans[index]]
        found: CohereAnswer = {
            "id": ranked.job.id,
            "model": ranked.job.model,
            "results": results,
            "usage": {"prompt_tokens": ranked.tokens, "total_tokens": ranked.tokens},
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"search_units": -(-len(documents) // SEARCH_UNIT)},
                "tokens": {"input_tokens": ranked.tokens, "output_tokens": 0},
            },
        }
        if ranked.result.warnings:
            found["meta"]["warnings"] = list(ranked.result.warnings)
        if not self.top_n:
            found["data"] = data
        return found

    def _spans(self, ranked: Ranked) -> "dict[int, Span]":
        """The best window of each document that was read in windows, if its score is high enough."""
        if self.relevant_spans is None or not self.shows_spans:
            return {}
        kind, found = ranked.result.provenance.score, {}
        for entry in ranked.result.results:
            if entry.window is None or entry.relevance_score is None:
                continue
            score = unit(entry.relevance_score, kind)
            if score >= self.relevant_spans.threshold:
                found[entry.index] = Span(start=entry.window.start, end=entry.window.end, score=score)
        return found


class ReadText(TypedDict):
    text: str


class Span(TypedDict):
    """Characters `start` up to `end` of a document."""

    start: int
    end: int
    score: float


class CohereResult(TypedDict):
    index: int
    relevance_score: float
    document: NotRequired[ReadText]
    relevant_spans: NotRequired[list[Span]]


class CohereData(TypedDict):
    """The same as Voyage's clients read it."""

    index: int
    relevance_score: float
    document: NotRequired[str]


class ApiVersion(TypedDict):
    version: str


class BilledUnits(TypedDict):
    search_units: int


class BilledTokens(TypedDict):
    input_tokens: int
    output_tokens: int


class Meta(TypedDict):
    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: BilledTokens
    warnings: NotRequired[list[str]]


class CohereAnswer(TypedDict):
    """The ranking, the best first."""

    id: str
    model: str
    results: list[CohereResult]
    usage: Tokens
    meta: Meta
    data: NotRequired[list[CohereData]]

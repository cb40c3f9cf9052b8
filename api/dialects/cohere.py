"""Cohere's rerank, v1 and v2; Jina's, vLLM's and what is called OpenAI-like are the same form.

https://docs.cohere.com/reference/rerank, https://jina.ai/reranker
"""

from typing import Annotated, Any

from pydantic import Field

from api.dialects.asking import Ranked
from api.dialects.form import Form
from api.dialects.lenient import Count, Documents, Flag, texts_of
from jobs.model import Lane

SEARCH_UNIT = 100
"""Documents of one query that Cohere bills as one unit."""


class Rerank(Form):
    query: str
    documents: Documents
    top_n: Count = 0
    return_documents: Flag = False
    rank_fields: list[str] = Field([], description="fields of a document that are read, one on each line")
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = None
    priority: int = Field(0, ge=0, le=999, description="above 0: less urgent, it waits with the bulk jobs")
    instruction: str | None = None

    def read_documents(self) -> list[str]:
        return texts_of(self.documents, self.rank_fields)

    def job(self, documents: list[str]) -> dict[str, Any]:
        return {
            "query": self.query,
            "documents": documents,
            "top_n": self.top_n or None,
            "max_tokens_per_doc": self.max_tokens_per_doc,
            "instruction": self.instruction,
            "lane": Lane.BULK if self.priority else Lane.INTERACTIVE,
        }

    def answer(self, documents: list[str], ranked: Ranked) -> dict[str, Any]:
        """`data` says the same in Voyage's words: without `top_n` its clients can't be told from Cohere's."""
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": score} for index, score in ranked.results
        ]
        found: dict[str, Any] = {
            "id": ranked.job.id,
            "model": ranked.job.model,
            "results": [
                {**entry, "document": {"text": documents[entry["index"]]}} if self.return_documents else entry
                for entry in results
            ],
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
            found["data"] = [
                {**entry, "document": documents[entry["index"]]} if self.return_documents else entry
                for entry in results
            ]
        return found

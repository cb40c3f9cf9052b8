"""Voyage's rerank: https://docs.voyageai.com/reference/reranker-api"""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from api.dialects.asking import Ranked
from api.dialects.form import Form, Tokens
from api.dialects.lenient import Count, Documents, Flag, Query, texts_of
from jobs.model import Overflow


class VoyageRerank(Form):
    """With `top_k` or `truncation`, and without `top_n`, it is Voyage's client that asks."""

    query: Query
    documents: Documents
    top_k: Count = 0
    return_documents: Flag = False
    truncation: Flag = True

    def read_documents(self) -> list[str]:
        return texts_of(self.documents)

    def job(self, documents: list[str]) -> dict[str, Any]:
        return {
            "query": self.query,
            "documents": documents,
            "top_n": self.top_k or None,
            "overflow": Overflow.TRUNCATE if self.truncation else Overflow.ERROR,
        }

    def answer(self, documents: list[str], ranked: Ranked) -> "VoyageAnswer":
        """A document without a score is the request's error: this form has no place to say so."""
        data: list[VoyageData] = []
        for index, score in ranked.all():
            data.append({"index": index, "relevance_score": score})
            if self.return_documents:
                data[-1]["document"] = documents[index]
        usage: Tokens = {"prompt_tokens": ranked.tokens, "total_tokens": ranked.tokens}
        return {"object": "list", "data": data, "model": ranked.job.model, "usage": usage}


class VoyageData(TypedDict):
    index: int
    relevance_score: float
    document: NotRequired[str]


class VoyageAnswer(TypedDict):
    """The ranking, the best first."""

    object: Literal["list"]
    data: list[VoyageData]
    model: str
    usage: Tokens

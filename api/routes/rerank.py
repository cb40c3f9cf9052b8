"""Synchronous reranking in the dialects of other services: one path of a job, many forms of asking.

Who asks is told by the fields of the request, since clients share paths. An answer is always the ranking or
an error, never a promise: several clients do not look at the status.
"""

from typing import Annotated, Any

from fastapi import Body, Request

from api.auth import Owner, keyed
from api.dialects.asking import rank
from api.dialects.cohere import CohereAnswer, CohereRerank
from api.dialects.errors import RESPONSES, DialectRoute
from api.dialects.form import Form
from api.dialects.lenient import read
from api.dialects.tei import TeiRerank, TeiScore
from api.dialects.voyage import VoyageAnswer, VoyageRerank
from api.openapi import body_of
from jobs.errors import InvalidRequest

router = keyed(route_class=DialectRoute, tags=["rerank"])

PATHS = ("/v2/rerank", "/v1/rerank", "/rerank", "/v1/v2/rerank", "/v1/v1/rerank")
"""The last two for those who have put /v1 into the base URL of Cohere's client."""

AnyBody = Annotated[dict[str, Any], Body()]


async def rerank(body: AnyBody, request: Request, owner: Owner) -> Any:
    """Ranks documents by their relevance to a query, and waits for it.

    `documents`: as Cohere, Jina and vLLM do; with `top_k` or `truncation` as Voyage does. `texts`: as Text
    Embeddings Inference does.
    """
    given = {name for name, value in body.items() if value is not None}
    request.state.tei = "texts" in given and "documents" not in given
    form = read(_form(given), body)
    documents = form.read_documents()
    ranked = await rank(request, owner, model=form.model, **form.job(documents))
    return form.answer(documents, ranked)


def _form(given: set[str]) -> type[Form]:
    """Whose form it is, by the fields that are given."""
    match len(given & {"documents", "texts"}):
        case 0:
            raise InvalidRequest("`documents` (or `texts`) is missing", field="documents")
        case 2:
            raise InvalidRequest("give either `documents` or `texts`, not both", field="documents")
    if "texts" in given:
        return TeiRerank
    if given & {"top_k", "truncation"} and "top_n" not in given:
        return VoyageRerank
    return CohereRerank


for path in PATHS:
    router.add_api_route(
        path,
        rerank,
        methods=["POST"],
        operation_id=f"rerank{path.replace('/', '_')}",
        response_model=None,
        responses={200: {"model": CohereAnswer | VoyageAnswer | list[TeiScore]}, **RESPONSES},
        openapi_extra=body_of(
            CohereRerank,
            VoyageRerank,
            TeiRerank,
            examples={
                "Cohere, Jina, vLLM": {
                    "query": "blue sky",
                    "documents": ["red apple", "blue sky"],
                    "top_n": 1,
                },
                "Voyage": {"query": "blue sky", "documents": ["red apple", "blue sky"], "top_k": 1},
                "Text Embeddings Inference": {"query": "blue sky", "texts": ["red apple", "blue sky"]},
            },
        ),
    )

"""Synchronous reranking in the dialects of other services: one path of a job, many forms of asking.

Who asks is told by the fields of the request, since clients share paths. An answer is always the ranking or
an error, never a promise: several clients do not look at the status.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request

from api.auth import Owner, bearer
from api.dialects import cohere, tei, voyage
from api.dialects.asking import rank
from api.dialects.errors import DialectRoute
from api.dialects.form import Form
from api.dialects.lenient import read
from jobs.errors import InvalidRequest

router = APIRouter(route_class=DialectRoute, tags=["rerank"], dependencies=[Depends(bearer)])

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
        return tei.Rerank
    if given & {"top_k", "truncation"} and "top_n" not in given:
        return voyage.Rerank
    return cohere.Rerank


for path in PATHS:
    router.add_api_route(path, rerank, methods=["POST"], operation_id=f"rerank{path.replace('/', '_')}")

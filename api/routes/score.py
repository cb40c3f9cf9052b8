"""Synchronous scoring of pairs, as vLLM's clients ask for it."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request

from api.auth import Owner, bearer
from api.dialects import scores
from api.dialects.asking import rank_all
from api.dialects.errors import DialectRoute
from api.dialects.lenient import read

router = APIRouter(route_class=DialectRoute, tags=["rerank"], dependencies=[Depends(bearer)])

PATHS = ("/score", "/v1/score")


async def score(body: Annotated[dict[str, Any], Body()], request: Request, owner: Owner) -> Any:
    """The score of each pair of `text_1` (or `queries`, `data_1`) and `text_2` (or `documents`, `items`)."""
    asked = read(scores.Score, body)
    pairs = asked.by_query()
    wanted = [asked.job(query, [text for _, text in documents]) for query, documents in pairs.items()]
    return scores.answer(pairs, await rank_all(request, owner, wanted))


for path in PATHS:
    router.add_api_route(path, score, methods=["POST"], operation_id=f"score{path.replace('/', '_')}")

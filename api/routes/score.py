"""Synchronous scoring of pairs, as vLLM's clients ask for it."""

from typing import Annotated, Any

from fastapi import Body, Request

from api.auth import Owner, keyed
from api.dialects.asking import rank_all
from api.dialects.errors import RESPONSES, DialectRoute
from api.dialects.lenient import read
from api.dialects.scores import ScoreAnswer, ScoreRequest, answer
from api.openapi import body_of

router = keyed(route_class=DialectRoute, tags=["rerank"])

PATHS = ("/score", "/v1/score")


async def score(body: Annotated[dict[str, Any], Body()], request: Request, owner: Owner) -> Any:
    """The score of each pair of `text_1` (or `queries`, `data_1`) and `text_2` (or `documents`, `items`)."""
    asked = read(ScoreRequest, body)
    pairs = asked.by_query()
    wanted = [asked.job(query, [text for _, text in documents]) for query, documents in pairs.items()]
    return answer(pairs, await rank_all(request, owner, wanted))


for path in PATHS:
    router.add_api_route(
        path,
        score,
        methods=["POST"],
        operation_id=f"score{path.replace('/', '_')}",
        response_model=None,
        responses={200: {"model": ScoreAnswer}, **RESPONSES},
        openapi_extra=body_of(
            ScoreRequest, examples={"one with many": {"text_1": "blue sky", "text_2": ["red apple", "sky"]}}
        ),
    )

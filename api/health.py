"""What a load balancer and an operator ask: does it live, may jobs come in, can they be served?"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api import problems
from jobs.settings import Settings
from jobs.store import Store

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    status: str = "ok"


class Readiness(Health):
    workers: list[str] = []
    waiting_for: str | None = None


@router.get("/live")
async def live() -> Health:
    """This process answers."""
    return Health()


@router.get("/accepting", responses={503: problems.RESPONSES[503]})
def accepting(request: Request) -> Health:
    """Jobs can be stored. They may be, also while no worker is there to score them."""
    store: Store = request.app.state.store
    store.ping()
    return Health()


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
def ready(request: Request) -> Readiness | JSONResponse:
    """A worker with an engine serves the default model."""
    store: Store = request.app.state.store
    settings: Settings = request.app.state.settings
    workers = [w["name"] for w in store.workers() if w["role"] == "score" and w["model"] == settings.model]
    if workers:
        return Readiness(workers=workers)
    waiting = Readiness(status="not ready", waiting_for=f"a score worker for {settings.model}")
    return JSONResponse(waiting.model_dump(), 503, headers={"Retry-After": "5"})

"""Errors as clients of other services look for them, all in one body; TEI's clients want another.

No word is left to chance: clients match on texts. `invalid_request_error` stands where the request is at
fault, and "rate limit" where it should be sent again later, nowhere else.
"""

import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from typing_extensions import TypedDict

from api import problems
from api.auth import KeyedRoute
from api.dialects.asking import CallerGone, JobFailed, TookTooLong, Unscored
from jobs import errors

log = logging.getLogger(__name__)

LONGEST = 60
"""Seconds of Retry-After: some clients sleep as long as they are told."""

HUNG_UP = 499
"""nginx's status for a caller that is gone; nobody reads it."""

KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}

STATUS = {
    **problems.STATUS,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    TookTooLong: HTTPStatus.GATEWAY_TIMEOUT,
    Unscored: HTTPStatus.UNPROCESSABLE_ENTITY,
}

TEI_KINDS = {
    HTTPStatus.TOO_MANY_REQUESTS: "Overloaded",
    HTTPStatus.SERVICE_UNAVAILABLE: "Unhealthy",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Validation",
}


class ErrorInside(TypedDict):
    message: str
    type: str
    code: str


class DialectError(TypedDict):
    """The same words in each place where a client looks for them."""

    detail: str
    message: str
    error: ErrorInside


class TeiError(TypedDict):
    """What the clients of Text Embeddings Inference look for."""

    error: str
    error_type: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": DialectError | TeiError, "description": text}
    for status, text in {
        400: "The body is not JSON",
        401: "No key, or a wrong one",
        404: "No such model is served here",
        413: "Larger than this service accepts",
        422: "A field can't be accepted, or a document has no score and this form no place to say so",
        429: "The queue is full; try again after `Retry-After` seconds",
        500: "The engine could not rank this",
        503: "Redis can't be reached; try again after `Retry-After` seconds",
        504: "Not ranked in time, and given up",
    }.items()
}
"""For OpenAPI: the errors that a dialect may answer with. `TeiError` where `texts` were given."""


def body(status: HTTPStatus, code: str, message: str, *, tei: bool) -> DialectError | TeiError:
    if tei:
        return {"error": message, "error_type": TEI_KINDS.get(status, "Backend")}
    kind = KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    inside: ErrorInside = {"message": message, "type": kind, "code": code}
    return {"detail": message, "message": message, "error": inside}


class DialectRoute(KeyedRoute):
    """A route whose errors, those of its dependencies too, have the dialect's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def shaped(request: Request) -> Response:
            try:
                return await handle(request)
            except CallerGone:
                return Response(status_code=HUNG_UP)
            except (errors.PodiumError, RequestValidationError, HTTPException) as error:
                return _answer(error, tei=getattr(request.state, "tei", False))

        return shaped


def _answer(error: Exception, *, tei: bool) -> JSONResponse:
    headers: dict[str, str] = {}
    match error:
        case JobFailed():
            callers = error.why in error.callers
            status = HTTPStatus.UNPROCESSABLE_ENTITY if callers else HTTPStatus.INTERNAL_SERVER_ERROR
            code, message = error.why, error.message
        case errors.PodiumError():
            found = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
            status = found or HTTPStatus.INTERNAL_SERVER_ERROR
            code, message = error.code, error.message
        case RequestValidationError():
            status, code = HTTPStatus.UNPROCESSABLE_ENTITY, errors.InvalidRequest.code
            first = error.errors()[0]
            if first["type"] == "json_invalid":
                status, code = HTTPStatus.BAD_REQUEST, "invalid_json"
            message = f"the body is not a JSON object: {first['msg']}"
        case _:
            assert isinstance(error, HTTPException)
            status = HTTPStatus(error.status_code)
            code, message = problems.CODES.get(status, "http_error"), str(error.detail)
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        message = f"rate limit: {message}"
        wait = problems.retry_after(error) if isinstance(error, errors.QueueFull) else LONGEST
        headers["Retry-After"] = str(min(LONGEST, wait))
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("answered with 500: %r", error)
    headers = {**problems.HEADERS.get(status, {}), **headers}
    return JSONResponse(body(status, code, message, tei=tei), status, headers=headers)

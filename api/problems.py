"""Errors as RFC 9457 problems: `code` is stable, `errors` names each offending field by its path."""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from jobs import errors

log = logging.getLogger(__name__)

STATUS: dict[type[errors.PodiumError], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownModel: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.CallbackForbidden: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.ModelNotFound: HTTPStatus.NOT_FOUND,
    errors.JobNotFound: HTTPStatus.NOT_FOUND,
    errors.AlreadyEnded: HTTPStatus.CONFLICT,
    errors.NotEnded: HTTPStatus.CONFLICT,
    errors.NotRetryable: HTTPStatus.CONFLICT,
    errors.CallbackNotFound: HTTPStatus.NOT_FOUND,
    errors.CallbackPending: HTTPStatus.CONFLICT,
    errors.IdempotencyConflict: HTTPStatus.CONFLICT,
    errors.JobErased: HTTPStatus.GONE,
    errors.StoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

CODES = {
    HTTPStatus.BAD_REQUEST: "invalid_json",  # FastAPI's answer to what can't be decoded at all
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: errors.TooLarge.code,
}

HEADERS: dict[HTTPStatus, dict[str, str]] = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "2"},
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
}


NOTHING_DRAINS = 30
"""Seconds to wait for a full queue of which nothing was ended within a minute: a worker may be starting."""

LONGEST = 3_600
"""Seconds. Who waits longer than that had better ask again."""


class FieldError(BaseModel):
    field: str = Field(description="path in the request's body", examples=["documents.0.text"])
    code: str = Field(examples=["string_type"])
    message: str


class Problem(BaseModel):
    """What every error looks like (RFC 9457), with the media type application/problem+json."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    code: str = Field(description="stable; made for programs", examples=["invalid_request"])
    detail: str = Field(description="made for people")
    errors: list[FieldError] = []


def response(
    status: HTTPStatus,
    code: str,
    detail: str,
    fields: list[FieldError] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    problem = Problem(title=status.phrase, status=status, code=code, detail=detail, errors=fields or [])
    return JSONResponse(
        problem.model_dump(exclude_defaults=False),
        status,
        media_type="application/problem+json",
        headers=headers or HEADERS.get(status),
    )


def podium_error(error: errors.PodiumError) -> JSONResponse:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None:
        log.error("an error that callers should not see: %r", error, exc_info=error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
    fields = [FieldError(field=error.field, code=error.code, message=error.message)] if error.field else []
    headers = {"Retry-After": str(retry_after(error))} if isinstance(error, errors.QueueFull) else None
    return response(status, error.code, error.message, fields, headers)


def retry_after(error: errors.QueueFull) -> int:
    """Whole seconds until a full queue will have room: the measured time and a tenth more, as rates vary."""
    if error.retry_after is None:
        return NOTHING_DRAINS
    return min(LONGEST, math.ceil(error.retry_after.total_seconds() * 1.1) + 1)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem."""

    @app.exception_handler(errors.PodiumError)
    async def on_podium_error(_: Request, error: errors.PodiumError) -> JSONResponse:
        return podium_error(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        if any(entry["type"] == "json_invalid" for entry in found):
            reason = found[0].get("ctx", {}).get("error", "")
            return response(HTTPStatus.BAD_REQUEST, "invalid_json", f"the body is not JSON: {reason}")
        sent = request.headers.get("content-type", "")
        if found[0]["loc"] == ("body",) and "json" not in sent:
            detail = (
                f"send the body as JSON, with content-type: application/json (it was {sent or 'not given'})"
            )
            return response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", detail)
        fields = [_field(entry) for entry in found[:20]]
        detail = "; ".join(
            f"{entry.field}: {entry.message}" if entry.field else entry.message for entry in fields
        )
        return response(HTTPStatus.UNPROCESSABLE_ENTITY, errors.InvalidRequest.code, detail, fields)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        headers = dict(error.headers or {}) or None
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(_methods(app, request))}
        return response(status, CODES.get(status, "http_error"), str(error.detail), headers=headers)

    @app.exception_handler(Exception)
    async def on_defect(_: Request, error: Exception) -> JSONResponse:
        log.error("a defect", exc_info=error)
        return response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "an internal error; the log has it")


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Of all routes with this path: Starlette names those of the first one only."""
    found = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


def _field(entry: Mapping[str, Any]) -> FieldError:
    where, *path = entry["loc"]
    parts = path if where == "body" else entry["loc"]
    return FieldError(field=".".join(map(str, parts)), code=entry["type"], message=entry["msg"])


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, text in {
        400: "The body is not JSON",
        401: "No key, or a wrong one",
        413: "Larger than this service accepts",
        422: "A field can't be accepted; `errors` names it",
        429: "The queue is full; try again after `Retry-After` seconds",
        503: "Redis can't be reached; try again after `Retry-After` seconds",
    }.items()
}
"""For OpenAPI: the errors that any call may answer with."""

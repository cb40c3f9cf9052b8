"""Refuses a body that is too large before it is in memory."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = "/ui"
"""Its uploads are Gradio's business."""


class BodyLimit:
    """Middleware: bodies of API calls end at `limit` bytes, whether their length was declared or not.

    The error comes to whoever reads the body, and so has that route's form.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._message = f"the body has more than the {limit:,} bytes that this service accepts"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(PAGE):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received = int(declared) if declared.isdigit() and int(declared) > self._limit else 0

        async def counted() -> Message:
            nonlocal received
            if received <= self._limit:
                message = await receive()
                received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, self._message)
            return message

        await self._app(scope, counted, send)

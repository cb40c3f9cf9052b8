"""What the service's OpenAPI says beyond what FastAPI finds in the routes by itself."""

from itertools import chain
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from jobs.settings import Settings

REFERENCE = "#/components/schemas/{model}"

_bodies: set[type[BaseModel]] = set()


def body_of(*kinds: type[BaseModel], examples: dict[str, Any]) -> dict[str, Any]:
    """For a route that reads its body by itself: `openapi_extra` that says it is one of `kinds`."""
    _bodies.update(kinds)
    schemas = [{"$ref": REFERENCE.format(model=kind.__name__)} for kind in kinds]
    content = {
        "schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas},
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def install(app: FastAPI, settings: Settings, *answers: type[BaseModel]) -> None:
    """Adds the schemas of the bodies above and of `answers`, and whether this service asks for a key.

    Where it does, the page does not say which models it serves: anyone can read it.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = describe()
            _, found = models_json_schema(
                [(kind, "validation") for kind in sorted(_bodies, key=lambda kind: kind.__name__)]
                + [(kind, "serialization") for kind in answers],
                ref_template=REFERENCE,
            )
            schemas = schema["components"]["schemas"]
            schemas.update(found["$defs"])
            if not settings.keys:
                schemas["JobRequest"]["properties"]["model"]["anyOf"][0]["enum"] = list(settings.served)
                del schema["components"]["securitySchemes"]
                for operation in chain.from_iterable(path.values() for path in schema["paths"].values()):
                    operation.pop("security", None)
        return app.openapi_schema or schema

    app.openapi = openapi  # type: ignore[method-assign]

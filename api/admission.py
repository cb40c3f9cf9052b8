"""Step 2: from a request to a job that may be stored, or an error that names the field."""

import hashlib
import json
import uuid
from datetime import timedelta
from itertools import chain

from api.schemas import JobRequest
from jobs.callback import check_target
from jobs.errors import CallbackForbidden, InvalidRequest, TooLarge, UnknownModel
from jobs.model import CallbackTarget, CleanStep, Document, Idempotency, NewJob, Overflow, Work
from jobs.settings import Settings
from jobs.store import Room

INSTRUCT = "[instruct]"

DEEPEST = 64
"""Objects and lists inside each other; from 200 on not every part of the service can read them."""

A_WINDOW = 512
"""Tokens that are guessed for a window of a document, where the job does not say how many."""


def admit(request: JobRequest, owner: str, settings: Settings, key: str | None = None) -> NewJob:
    """A job with an id of its own. `key`: the caller's Idempotency-Key.

    Raises `InvalidRequest`, `UnknownModel`, `TooLarge` or `CallbackForbidden`.
    """
    model = request.model or settings.model
    if model not in settings.served:
        raise UnknownModel(
            f"{model!r} is not served here; there are: {', '.join(settings.served)}", field="model"
        )
    _check_sizes(request, settings)
    if request.callback is not None:
        if settings.callback_secret is None:
            raise CallbackForbidden(
                "callbacks are off: the operator has not set PODIUM_CALLBACK_SECRET", field="callback"
            )
        check_target(request.callback.url, settings.allowed_networks)
    query, instruction = split_query(request.query, request.instruction)
    work = Work(
        query=query,
        documents=tuple(
            Document(text=document.text, id=document.id, metadata=document.metadata)
            for document in request.documents
        ),
        instruction=instruction,
        top_n=request.top_n,
        return_documents=request.return_documents,
        max_tokens_per_doc=request.max_tokens_per_doc,
        max_tokens_per_pair=request.max_tokens_per_pair,
        overflow=request.overflow,
        clean=tuple(step for step in CleanStep if step in request.clean),
        cache=request.cache,
        metadata=request.metadata,
    )
    tokens = estimate_tokens(work)
    _at_most("documents", tokens, settings.limits.queue_tokens, "tokens (estimated)")
    return NewJob(
        id=str(uuid.uuid4()),
        owner=owner,
        model=model,
        lane=request.lane,
        result_ttl=_seconds(request.result_ttl) or settings.jobs.result_ttl,
        start_within=_seconds(request.start_within),
        finish_within=_seconds(request.finish_within),
        idempotency=None if key is None else _idempotency(key, request, settings),
        callback=None if request.callback is None else CallbackTarget(**request.callback.model_dump()),
        tokens=tokens,
        work=work,
    )


def split_query(query: str, instruction: str | None) -> tuple[str, str | None]:
    """Query and instruction. Users of Qwen3-Reranker may write both into the query, the instruction first:
    `[instruct] what counts as relevant`, and the query from the second line on. The field wins.

    Raises `InvalidRequest` if no query is left.
    """
    if not query.startswith(INSTRUCT) or not query[len(INSTRUCT) :][:1].isspace():
        return query, instruction
    first, _, rest = query.partition("\n")
    if not rest.strip():
        raise InvalidRequest(
            f"begins with {INSTRUCT}, so its first line is the instruction: the query comes on the next line",
            field="query",
        )
    return rest, instruction or first.removeprefix(INSTRUCT).strip() or None


def room(settings: Settings) -> Room:
    """What may wait in one lane."""
    limits = settings.limits
    return Room(limits.queue_tokens, limits.queue_jobs, limits.memory_share)


def estimate_tokens(work: Work) -> int:
    """About as many tokens as the engine will read: a quarter of the UTF-8 bytes, the query with each text.

    The API has no tokenizer. A lane is filled and drained in the same estimated tokens, so a wrong estimate
    cancels out in `Retry-After` (docs/decisions/0005).
    """
    each = len(work.query.encode()) + len((work.instruction or "").encode())
    window = 4 * _window(work, each // 4) if work.overflow is Overflow.CHUNK else None
    sizes = [len(document.text.encode()) for document in work.documents]
    return sum((each * (1 if window is None else 1 + size // window) + size) // 4 + 1 for size in sizes)


def _window(work: Work, query: int) -> int:
    """Tokens of a document in each of its windows, beside the `query` ones, as far as the job bounds them."""
    tokens = work.max_tokens_per_doc or A_WINDOW
    if work.max_tokens_per_pair is not None:
        tokens = min(tokens, max(1, work.max_tokens_per_pair - query))
    return tokens


def _idempotency(key: str, request: JobRequest, settings: Settings) -> Idempotency:
    return Idempotency(
        key=hashlib.sha256(key.encode()).hexdigest(),
        request=hashlib.sha256(request.model_dump_json(exclude_defaults=True).encode()).hexdigest(),
        ttl=settings.jobs.idempotency_ttl,
    )


def _seconds(given: int | None) -> timedelta | None:
    return None if given is None else timedelta(seconds=given)


def _check_sizes(request: JobRequest, settings: Settings) -> None:
    limits = settings.limits
    if not request.query.strip():
        raise InvalidRequest("must not be empty", field="query")
    _at_most("query", len(request.query), limits.query_chars, "characters")
    _at_most("instruction", len(request.instruction or ""), limits.query_chars, "characters")
    _at_most("documents", len(request.documents), limits.documents, "documents")
    for index, document in enumerate(request.documents):
        _at_most(f"documents.{index}.text", len(document.text), limits.document_chars, "characters")
        _at_most(f"documents.{index}.metadata", _json_bytes(document.metadata, f"documents.{index}.metadata"),
                 limits.metadata_bytes, "bytes")  # fmt: skip
    _at_most("metadata", _json_bytes(request.metadata, "metadata"), limits.metadata_bytes, "bytes")


def _at_most(field: str, found: int, limit: int, unit: str) -> None:
    if found > limit:
        raise TooLarge(f"has {found:,} {unit}; this service accepts {limit:,}", field=field)


def _json_bytes(metadata: object, field: str) -> int:
    if _deeper_than(metadata, DEEPEST):
        raise InvalidRequest(f"is nested more than {DEEPEST} deep", field=field)
    try:
        return len(json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode())
    except (ValueError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"can't be written as JSON: {error}", field=field) from error


def _deeper_than(value: object, levels: int) -> bool:
    inside = [value]
    while inside := [one for one in inside if isinstance(one, dict | list)]:
        if levels == 0:
            return True
        levels -= 1
        inside = list(chain.from_iterable(one.values() if isinstance(one, dict) else one for one in inside))
    return False

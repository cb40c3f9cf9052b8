"""What goes over the wire: the request for a job, and a job as its owner sees it."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from jobs.callback import CallbackRecord
from jobs.model import (
    CleanStep,
    Failure,
    Job,
    Lane,
    Overflow,
    Provenance,
    RankedDocument,
    Result,
    Timings,
    Usage,
)
from jobs.states import CallbackState, JobState

SOMETHING = r"[^\s\x1c-\x1f\x85]"
"""OpenAPI's pattern of a text that is not blank: Python's white space has five characters more than `\\s`."""


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _encodable(text: str) -> str:
    """JSON can escape half a character (\\ud800), which no tokenizer and no database can read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair at character {error.start}") from error
    return text


Text = Annotated[str, AfterValidator(_encodable)]


def whole(value: Any) -> Any:
    """To JSON 1.0 is an integer, as 1 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Positive = Annotated[int, Field(ge=1), BeforeValidator(whole)]

Seconds = Annotated[int, Field(ge=1, le=30 * 86_400), BeforeValidator(whole)]


def _all_or_some(value: Any) -> Any:
    if isinstance(value, bool):
        return tuple(CleanStep) if value else ()
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be true, false or a list of: {', '.join(CleanStep)}")  # noqa: TRY004
    return tuple(value)


CleanSteps = Annotated[
    tuple[Annotated[CleanStep, Field(strict=False)], ...],
    BeforeValidator(_all_or_some, json_schema_input_type=bool | list[CleanStep]),
]


class DocumentIn(Wire):
    """A text, or an object with more about it."""

    text: Text
    id: Text | None = Field(None, max_length=512, description="comes back with the score")
    metadata: dict[str, Any] | None = Field(None, description="comes back with `return_documents`")

    @model_validator(mode="before")
    @classmethod
    def _a_bare_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(schema))]}


class CallbackIn(Wire):
    url: Text = Field(
        max_length=2_048,
        description="https, and public unless the operator allows more",
        json_schema_extra={"format": "uri", "pattern": "^https?://[^/]"},
        examples=["https://example.com/ranked"],
    )
    include_result: bool = Field(False, description="send the result along if it is small enough")


class JobRequest(Wire):
    """Documents to be ranked by their relevance to a query."""

    query: Text = Field(
        json_schema_extra={"pattern": SOMETHING},
        description="`[instruct] …` on its first line is the instruction, unless that is given by itself",
    )
    documents: list[DocumentIn] = Field(min_length=1)
    model: Text | None = Field(None, description="default: the service's own")
    instruction: Text | None = Field(None, description="what counts as relevant; some models ignore it")
    top_n: Positive | None = Field(None, description="how many to return; default: all")
    return_documents: bool = Field(
        False, description="return the texts, as they were read, with their scores"
    )
    max_tokens_per_doc: Positive | None = Field(
        None, description="tokens of a document that are read at once; default: all that the model can"
    )
    max_tokens_per_pair: Positive | None = Field(
        None,
        description="tokens that are read at once: of query, document and what the model needs around them, "
        "or of each where the model reads them apart; only the document is cut; default: all that it can",
    )
    overflow: Annotated[Overflow, Field(strict=False)] = Field(
        Overflow.TRUNCATE,
        description="what becomes of a longer document: its beginning is read, or it gets no score, or it is "
        "read in overlapping windows and the best one counts",
    )
    clean: CleanSteps = Field(
        (), description="clean query and documents before they are read: true for all steps, or a list"
    )
    cache: bool = Field(
        True,
        description="false: score anew; no known score is used, none is kept, and no pair is shared with "
        "another job",
    )
    lane: Annotated[Lane, Field(strict=False)] = Lane.INTERACTIVE
    start_within: Seconds | None = Field(None, description="seconds; if it has not started, it expires")
    finish_within: Seconds | None = Field(None, description="seconds; if it has not ended, it expires")
    result_ttl: Seconds | None = Field(
        None, description="seconds that the result is kept; default: the service's own"
    )
    callback: CallbackIn | None = None
    metadata: dict[str, Any] | None = Field(None, description="comes back with the job")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": "How many days of annual leave do I get in the first year?",
                    "documents": [
                        "New employees have 20 days of annual leave in their first year.",
                        "The canteen is open from 11:30 to 14:00.",
                    ],
                }
            ]
        }
    )


class Progress(Wire):
    scored: int
    total: int


class CallbackOut(Wire):
    status: CallbackState


class AttemptOut(Wire):
    at: str
    status: int | None = Field(None, description="the answer's HTTP status; null if there was none")
    answer: str = Field(description="the answer's beginning, or why there was none")
    seconds: float


class CallbackRecordOut(CallbackOut):
    """A callback and each attempt to deliver it."""

    url: str
    attempts: list[AttemptOut]


class Urls(Wire):
    self: str


class JobOut(Wire):
    """A job. `results` and what follows it are there once it has succeeded, `error` once it has failed."""

    id: str
    status: JobState
    model: str
    lane: Lane
    progress: Progress
    queue_position: int | None = Field(None, description="jobs of its queue before it, while it waits")
    estimated_start: datetime | None = Field(
        None, description="while it waits, if its queue has ended a job within the last minute: by that rate"
    )
    attempts: int = Field(description="attempts that were lost with their worker")
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    callback: CallbackOut | None = None
    results: tuple[RankedDocument, ...] | None = None
    usage: Usage | None = None
    provenance: Provenance | None = None
    timings: Timings | None = None
    query_cleaned: tuple[CleanStep, ...] | None = None
    warnings: tuple[str, ...] = ()
    error: Failure | None = None
    urls: Urls


class JobsOut(Wire):
    """The newest first, without results. `next_cursor` leads on; without it there are no more."""

    jobs: list[JobOut]
    next_cursor: str | None = None


def job_out(job: Job, url: str) -> JobOut:
    result: Result | None = job.result
    return JobOut(
        id=job.id,
        status=job.state,
        model=job.model,
        lane=job.lane,
        progress=Progress(scored=job.scored, total=job.total),
        queue_position=job.position,
        estimated_start=None if job.starts_at is None else _moment(job.starts_at),
        attempts=job.attempts,
        created_at=_moment(job.created_at),
        started_at=None if job.started_at is None else _moment(job.started_at),
        ended_at=None if job.ended_at is None else _moment(job.ended_at),
        metadata=job.metadata,
        callback=None if job.callback_state is None else CallbackOut(status=job.callback_state),
        results=result.results if result else None,
        usage=result.usage if result else None,
        provenance=result.provenance if result else None,
        timings=result.timings if result else None,
        query_cleaned=result.query_cleaned if result else None,
        warnings=result.warnings if result else (),
        error=job.error,
        urls=Urls(self=url),
    )


def callback_out(record: CallbackRecord) -> CallbackRecordOut:
    return CallbackRecordOut(
        status=record.state,
        url=record.target.url,
        attempts=[AttemptOut.model_validate(attempt) for attempt in record.attempts],
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

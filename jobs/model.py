"""The values that travel: a job, its documents, its result. All frozen; JSON in and out by pydantic."""

from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from jobs.states import CallbackState, JobState


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lane(StrEnum):
    INTERACTIVE = "interactive"  # somebody waits for it
    BULK = "bulk"  # nobody does


class Depth(NamedTuple):
    """What waits in one lane, with its estimated tokens, and how many of its jobs run."""

    model: str
    lane: Lane
    waiting_jobs: int
    waiting_tokens: int
    running: int


class Overdue(NamedTuple):
    """A running job whose lease has ended. `inside`: it was a suspect, and the engine was given it."""

    job_id: str
    generation: int
    attempts: int
    inside: bool


class Overflow(StrEnum):
    """What becomes of a document that is longer than the model can read beside the query."""

    TRUNCATE = "truncate"  # its beginning is read
    ERROR = "error"  # it gets no score
    CHUNK = "chunk"  # it is read in overlapping windows; the best one is its score


class DocumentStatus(StrEnum):
    OK = "ok"
    TRUNCATED = "truncated"  # only its beginning was read
    CHUNKED = "chunked"  # it was read in windows; `window` is the best
    FAILED = "failed"  # it has no score; `code` says why


class CleanStep(StrEnum):
    """What may be done to a text before it is tokenized, in the order in which it is done.

    Each step reads what the one before it leaves. Tags go first: once entities are resolved, an escaped
    `&lt;b&gt;` would look like one. Mojibake is often spelt in entities (`&acirc;&euro;&trade;`), and its
    clues are the C1 controls, no-break spaces and signs such as the ™ that the next three steps take away.
    Controls go before NFKC, so that a letter meets its accent. NFKC makes spaces: those come last.
    """

    HTML = "html"  # a page's text without its tags
    ENTITIES = "entities"  # `&amp;` becomes `&`
    MOJIBAKE = "mojibake"  # `Ã©` becomes `é`
    CONTROL = "control"  # characters that nobody sees go
    NFKC = "nfkc"  # compatibility forms become plain ones: full width, ligatures
    WHITESPACE = "whitespace"  # one space, at most one empty line


class Document(Value):
    text: str
    id: str | None = None
    metadata: dict[str, Any] | None = None


class CallbackTarget(Value):
    """Where to tell that a job has ended."""

    url: str
    include_result: bool = False


class Work(Value):
    """What a caller asked for: the part of a job that the engine needs. Erased when the job ends."""

    query: str
    documents: tuple[Document, ...]
    instruction: str | None = None
    top_n: int | None = None
    return_documents: bool = False
    max_tokens_per_doc: int | None = None
    max_tokens_per_pair: int | None = None
    overflow: Overflow = Overflow.TRUNCATE
    clean: tuple[CleanStep, ...] = ()
    cache: bool = True
    metadata: dict[str, Any] | None = None


class Idempotency(Value):
    """What makes a repeated request find its first job: hashes of the caller's key and of the request."""

    key: str
    request: str
    ttl: timedelta


class NewJob(Value):
    """A job that is validated and not yet stored."""

    id: str
    owner: str
    model: str
    lane: Lane
    work: Work
    tokens: int = Field(0, description="estimated; what it adds to its queue")
    result_ttl: timedelta
    start_within: timedelta | None = None
    finish_within: timedelta | None = None
    idempotency: Idempotency | None = None
    callback: CallbackTarget | None = None


class Window(Value):
    """A part of a document: from character `start` up to `end`, of the text as it was read.

    Where `clean` has changed the text, `return_documents` gives it as it was read.
    """

    start: int
    end: int


class RankedDocument(Value):
    """One document's place in the ranking. `index` is its place in the request."""

    index: int
    relevance_score: float | None = Field(None, description="absent: it has none; `code` says why")
    status: DocumentStatus = DocumentStatus.OK
    code: str | None = Field(None, description="why it has no score")
    message: str | None = Field(None, description="the same, in words")
    tokens: int = Field(0, description="that the engine has read for it, in all windows")
    window: Window | None = Field(None, description="the best window of a chunked document")
    windows: int | None = Field(None, description="how many windows it was read in")
    cleaned: tuple[CleanStep, ...] | None = Field(
        None, description="what `clean` has changed in it; null: the job did not ask for it"
    )
    id: str | None = None
    document: Document | None = None


class Provenance(Value):
    """What made the scores. Results with equal provenance are comparable."""

    model: str
    source: str
    revision: str = Field(
        "", description="of the model: a commit, a package's version, or a hash of its files"
    )
    score: str = Field(description="kind of score: probability, cosine or logit")
    template_hash: str | None = Field(None, description="absent: the model has no template")
    instruction: str | None = Field(None, description="absent: the model takes none")
    dtype: str
    engine: str
    engine_version: str
    batch_invariant: bool = False
    worker: str
    attempt: int


class Timings(Value):
    """Where a job's time went, in seconds."""

    queued: float
    tokenize: float
    engine: float
    total: float


class Usage(Value):
    total_tokens: int = Field(description="of all that the job is made of, whether the engine had to read it")
    documents: int
    cached: int = Field(
        0, description="pairs whose score was known: a document has one, or one for each window"
    )
    shared: int = Field(
        0,
        description="sequences that did not have to be read again, since an equal one was at that moment, "
        "of this job or another; a pair is one, and so is a query that is read by itself",
    )


class Result(Value):
    results: tuple[RankedDocument, ...]
    usage: Usage
    provenance: Provenance
    timings: Timings
    query_cleaned: tuple[CleanStep, ...] | None = None
    warnings: tuple[str, ...] = ()


class Failure(Value):
    """Why a job has no result."""

    code: str
    message: str


class Job(Value):
    """A stored job, as a reader sees it. Times are Unix seconds by Redis' clock."""

    id: str
    owner: str
    state: JobState
    model: str
    lane: Lane
    total: int
    scored: int = 0
    position: int | None = Field(None, description="how many stand before it while it waits")
    starts_at: float | None = Field(None, description="estimated, by what its queue has drained lately")
    generation: int = 0
    attempts: int = 0
    created_at: float
    announced_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    metadata: dict[str, Any] | None = None
    result: Result | None = None
    error: Failure | None = None
    result_ttl: timedelta
    ends: int = Field(0, description="how often it was ended: more than once is a defect")
    callback: CallbackTarget | None = None
    callback_state: CallbackState | None = None
    worker: str | None = Field(None, description="who claimed it last")


class Claim(Value):
    """The right to work on a job: every later write names its generation."""

    job_id: str
    owner: str
    model: str
    lane: Lane
    generation: int
    attempts: int
    deaths: int = Field(description="engines that died with it inside")
    queued_for: float = Field(description="seconds from acceptance to this claim")
    work: Work
    callback: CallbackTarget | None = None

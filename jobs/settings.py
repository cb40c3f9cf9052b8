"""Settings: one frozen tree, read once from a file and the environment, and passed on from there.

Order: `PODIUM_…` environment, then the YAML file (`configs/service.yaml`, or the one at `PODIUM_CONFIG`),
then the defaults below. Nested ones are `PODIUM_<SECTION>__<NAME>`. A name that is not known is an error,
in the file and in the environment: a setting that nothing reads is a trap.
"""

import base64
import os
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from jobs.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent
"""Where the project lies: `configs/` is beside the packages."""


ALIASES = (
    "default",
    "default/not-specified",
    *("rerank-v3.5", "rerank-v4.0", "rerank-v4.0-pro", "rerank-v4.0-fast"),
    *("rerank-english-v2.0", "rerank-english-v3.0", "rerank-multilingual-v2.0", "rerank-multilingual-v3.0"),
    *("jina-reranker-v1-base-en", "jina-reranker-v1-turbo-en", "jina-reranker-v2-base-multilingual"),
    *("jina-reranker-m0", "jina-reranker-v3"),
    *("rerank-1", "rerank-lite-1", "rerank-2", "rerank-2-lite", "rerank-2.5", "rerank-2.5-lite"),
)
"""Clients of Cohere, Jina and Voyage send these where their user has named no model."""


def _number(value: Any) -> Any:
    """The environment writes 2.5 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Seconds = Annotated[timedelta, BeforeValidator(_number), Field(gt=timedelta(0))]
"""A duration; in the file and the environment a number of seconds."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_timedelta="float")


class Limits(Section):
    """What one request may hold."""

    body_bytes: int = Field(8 * 1024 * 1024, gt=0)
    documents: int = Field(5_000, gt=0)
    document_chars: int = Field(1_000_000, gt=0)
    query_chars: int = Field(100_000, gt=0)
    window_tokens: int = Field(
        10_000_000, gt=0, description="that the windows of one job may have together, with `overflow: chunk`"
    )
    metadata_bytes: int = Field(16_384, gt=0)
    queue_tokens: int = Field(100_000_000, gt=0, description="estimated tokens that may wait in one lane")
    queue_jobs: int = Field(200_000, gt=0, description="jobs that may wait in one lane")
    memory_share: float = Field(
        0.9, gt=0, le=1, description="of Redis' maxmemory; above it only jobs that were accepted go on"
    )


class Jobs(Section):
    """How long things last."""

    lease: Seconds = timedelta(seconds=15)
    sweep: Seconds = timedelta(seconds=2)
    announce_after: Seconds = timedelta(seconds=5)
    max_deaths: int = Field(3, gt=0, description="engines that die with a job inside before it is poison")
    max_attempts: int = Field(6, gt=0, description="the same, with workers that are lost whole counted in")
    result_ttl: Seconds = timedelta(hours=24)
    dialect_ttl: Seconds = Field(
        timedelta(minutes=5), description="how long a result is kept that its caller has waited for already"
    )
    idempotency_ttl: Seconds = timedelta(hours=24)
    max_wait: Seconds = timedelta(seconds=60)


class Worker(Section):
    threads: int = Field(80, gt=1, description="jobs in hand at once; each waits on its pairs")
    bulk_threads: int = Field(64, gt=0, description="those of them that bulk jobs may take at most")
    drain: Seconds = timedelta(seconds=10)
    events: bool = Field(
        True,
        description="tell of each task, for Flower; false: a worker begins when a Flower asks it to, "
        "and what has only been sent stays untold",
    )


class EngineSettings(Section):
    kind: str = Field("vllm", pattern="^(vllm|fake)$")
    model_path: str | None = Field(None, description="a folder to load instead of the profile's source")
    separate_process: bool = Field(False, description="run vLLM's core in a process of its own (GPU hosts)")
    eager: bool = Field(True, description="skip compilation: starts sooner; a GPU wants false")
    kv_cache_gib: int | None = Field(None, gt=0, description="CPU only; default: the profile's")
    memory_share: float = Field(0.1, gt=0, le=1, description="share of the device's memory")
    prefix_caching: bool = Field(True, description="compute what prompts begin with in common only once")
    window_tokens: int = Field(32_768, gt=0, description="tokens handed to the engine and not yet scored")
    coalesce: bool = Field(
        True, description="pairs of several jobs in the engine at once; false, one job after another, is slow"
    )
    linger: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how long an ended job may wait for others to end, where many are in hand: a share of "
        "what it took, 0.5 s at most; default: 0.25 where the engine computes on a CPU, else 0",
    )
    step_tokens: int | None = Field(
        None,
        gt=0,
        description="tokens that one engine step takes at most; default: 1,024 on a CPU, else 4,096",
    )
    fake_step: float = Field(0.0, ge=0, description="fake engine: seconds a step takes")
    fake_token: float = Field(0.0, ge=0, description="fake engine: seconds a token takes")


class CacheSettings(Section):
    """Scores of pairs that were scored before."""

    enabled: bool = Field(
        True, description="look scores up in Redis and keep new ones; score equal pairs in flight once"
    )
    ttl: Seconds = Field(timedelta(hours=1), description="how long a score is kept")
    memory_share: float = Field(
        0.5, gt=0, le=1, description="of Redis' maxmemory; above it no more scores are kept"
    )


class Callbacks(Section):
    timeout: Seconds = Field(timedelta(seconds=15), description="for each of connecting, sending, reading")
    record_ttl: Seconds = timedelta(days=7)
    threads: int = Field(16, gt=0, description="attempts at one time")

    @property
    def hold(self) -> timedelta:
        """No attempt takes longer: after it, another deliverer may try."""
        return self.timeout * 4


class Settings(Section):
    redis_url: str = "redis://127.0.0.1:6379/0"
    redis_fsync: Literal["everysec", "always"] = Field(
        "everysec", description="of the embedded server, see configs/valkey.conf; another has its own"
    )
    model: str = Field("minilm", description="the default model, a profile in configs/models/")
    models: tuple[str, ...] = Field((), description="further models that workers elsewhere serve")
    aliases: tuple[str, ...] = Field(
        ALIASES, description="names of other services' models that mean the default model here"
    )
    models_dir: Path = ROOT / "configs" / "models"
    api_keys: SecretStr = Field(SecretStr(""), description="name:key,name:key; empty = loopback only")
    flower_auth: SecretStr = Field(
        SecretStr(""), description="user:password,user:password for Flower; empty = loopback only"
    )
    callback_secret: SecretStr | None = Field(None, description="whsec_… that signs callbacks")
    callback_allow: str = Field("", description="CIDRs that may be called back although private")
    public_url: str = Field("http://127.0.0.1:8000", description="how callers reach the API")
    limits: Limits = Limits()
    jobs: Jobs = Jobs()
    worker: Worker = Worker()
    engine: EngineSettings = EngineSettings()
    cache: CacheSettings = CacheSettings()
    callbacks: Callbacks = Callbacks()

    @field_validator("callback_allow")
    @classmethod
    def _networks_parse(cls, value: str) -> str:
        for part in _parts(value):
            ip_network(part)
        return value

    @field_validator("callback_secret")
    @classmethod
    def _secret_signs(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            prefix, _, key = value.get_secret_value().partition("_")
            if prefix != "whsec" or not 24 <= len(base64.b64decode(key, validate=True)) <= 64:
                raise ValueError("write whsec_ and then 24 to 64 bytes in base64")
        return value

    @field_validator("api_keys")
    @classmethod
    def _keys_parse(cls, value: SecretStr) -> SecretStr:
        parse_keys(value)
        return value

    @field_validator("flower_auth")
    @classmethod
    def _logins_parse(cls, value: SecretStr) -> SecretStr:
        for login in _parts(value.get_secret_value()):
            user, _, password = login.partition(":")
            if not user or not password or not login.isascii():
                raise ValueError("write Flower's logins in ASCII as user:password,user:password")
        return value

    def job_url(self, job_id: str) -> str:
        return f"{self.public_url.rstrip('/')}/v1/jobs/{job_id}"

    @property
    def served(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.model, *self.models)))

    @property
    def allowed_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(part) for part in _parts(self.callback_allow))

    @property
    def flower_logins(self) -> tuple[str, ...]:
        return _parts(self.flower_auth.get_secret_value())

    def shown(self) -> dict[str, Any]:
        """All settings as JSON, fit for other people's eyes: secrets and the password in a URL are masked."""
        found = self.model_dump(mode="json")
        url = urlsplit(self.redis_url)
        if url.password:
            found["redis_url"] = url._replace(netloc=url.netloc.replace(url.password, "**********")).geturl()
        return found

    @property
    def keys(self) -> Mapping[str, str]:
        """Name of each caller by their secret key."""
        return parse_keys(self.api_keys)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in (p.strip() for p in text.split(",")) if part)


def parse_keys(text: SecretStr) -> dict[str, str]:
    """The name of each caller by their key. Raises `ValueError`."""
    keys: dict[str, str] = {}
    for part in _parts(text.get_secret_value()):
        name, _, key = part.partition(":")
        if not name or not key:
            raise ValueError("write API keys as name:key,name:key")
        keys[key] = name
    return keys


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this installation.

    Raises `ConfigurationError` naming each value that can't be used and where it came from.
    """
    path = Path(environ.get("PODIUM_CONFIG", ROOT / "configs" / "service.yaml"))
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"the settings file {path} can't be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"the settings file {path} must hold a mapping of names to values")
    for name, value in environ.items():
        if name.startswith("PODIUM_") and name != "PODIUM_CONFIG":
            _put(found, name.removeprefix("PODIUM_").lower().split("__"), value, name)
    try:
        return Settings.model_validate(found)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc']))} (PODIUM_{'__'.join(map(str, problem['loc'])).upper()}): "
            f"{problem['msg']}"
            for problem in error.errors()
        ]
        raise ConfigurationError("settings that can't be used:\n  " + "\n  ".join(lines)) from error


def _put(tree: dict[str, Any], path: list[str], value: str, name: str) -> None:
    *sections, last = path
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigurationError(f"{name}: {section} is a value, not a section")
    is_list = last in ("models", "aliases") and not sections
    tree[last] = list(_parts(value)) if is_list else value

"""vLLM as an engine: an owned `LLMEngine`, stepped by our thread. The only module that imports vLLM.

Why not `AsyncLLM`, and why in-process on a CPU: docs/decisions/0001.
"""

import hashlib
import multiprocessing.connection
import os
import threading
from collections.abc import Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from jobs.errors import ConfigurationError, EngineDied
from jobs.settings import EngineSettings
from worker.engines.base import EngineInfo, Output, Prompt
from worker.profiles import ModelProfile

CPU_BLOCK = 32
"""Tokens of a block of the prefix cache: what prompts of a job have in common is rarely longer than a few."""

CPU_STEP, GPU_STEP = 1_024, 4_096
"""Tokens of one step: enough to be busy with, and soon over, since what is urgent waits for its end."""

HASHED = frozenset({".safetensors", ".bin", ".pt", ".json", ".txt", ".model"})
"""Files of a checkpoint that may change its scores."""


ENDS = ("", *"a7? \n<\u5317\U0001f642", "e\u0301")
BEGINNINGS = (
    "",
    *"aZ7.,'_-(<>: \n\t\x00\xa0\xe9\u3000\u0301\u5317\ud55c\u3042\u0639\u0905\u200b\u200d\ufeff\U0001f642",
    *(
        "  ",
        " a",
        "1a",
        "'s",
        "::",
        "\r\n",
        "\n\na",
        "e\u0301",
        "\U0001f469\u200d\U0001f467",
        "<think>",
        "</s>",
    ),
)
"""Of texts, with which it is tried whether they may be divided."""


class FastTokenizer:
    """The model's own `tokenizer.json`, with truncation and padding off: cutting is `prompts`' business."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = str(folder / "tokenizer.json")
        if not Path(path).is_file():
            raise ConfigurationError(
                f"{folder.name} has no tokenizer.json: save the tokenizer in its fast form beside the weights"
            )
        self._text, self._control = Tokenizer.from_file(path), Tokenizer.from_file(path)
        for tokenizer in (self._text, self._control):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        # A caller's text that looks like <|im_end|> is text: never a control token.
        self._text.encode_special_tokens = True
        # Of a profile's own texts: few, and each job's.
        self.encode_control = cache(self._encode_control)
        self.divides = cache(self._divides)

    def encode_batch(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        encodings = self._text.encode_batch_fast(list(texts), add_special_tokens=special)
        return [encoding.ids for encoding in encodings]

    def encode_pairs(self, query: str, documents: Sequence[str]) -> list[Prompt]:
        pairs = [(query, document) for document in documents]
        prompts = []
        for encoding in self._text.encode_batch_fast(pairs, add_special_tokens=True):
            types = encoding.type_ids
            prompts.append(Prompt(encoding.ids, types.index(1) if 1 in types else None))
        return prompts

    def tail(self, *, pair: bool) -> int:
        texts = ("a", "a") if pair else ("a",)
        mask = self._text.encode(*texts).special_tokens_mask
        return mask[::-1].index(0)

    def spans(self, text: str) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = self._text.encode(text, add_special_tokens=False).offsets
        return spans

    def _divides(self, before: str, after: str) -> bool:
        """Tried, not proven: whether a piece begins with `after` each time, of those in which the tokenizer
        looks for tokens (by a regular expression, mostly). It makes no token across two pieces.
        """
        normalizer, pieces = self._text.normalizer, self._text.pre_tokenizer
        if pieces is None:
            return False

        def starts(head: str, text: str) -> bool:
            if normalizer is not None:
                head, text = normalizer.normalize_str(head), normalizer.normalize_str(text)
            return any(span[0] == len(head) for _, span in pieces.pre_tokenize_str(text))

        tried = [(end + before, after + beginning) for end in ENDS for beginning in BEGINNINGS]
        wholes = self.encode_batch([head + rest for head, rest in tried], special=False)
        heads = self.encode_batch([head for head, _ in tried], special=False)
        rests = self.encode_batch([rest for _, rest in tried], special=False)
        same = zip(wholes, heads, rests, strict=True)
        return all(starts(head, head + rest) for head, rest in tried) and all(w == h + r for w, h, r in same)

    def _encode_control(self, text: str) -> list[int]:
        ids: list[int] = self._control.encode(text, add_special_tokens=False).ids
        return ids


def engine_arguments(profile: ModelProfile, settings: EngineSettings) -> tuple[dict[str, Any], Path]:
    """What vLLM's `EngineArgs` are given, and the folder with the tokenizer. Sets vLLM's environment.

    Raises `ConfigurationError` when the profile's model can't be found.
    """
    _environment(settings, profile)
    model = profile.locate(settings.model_path)
    from vllm.platforms import current_platform

    folder = _folder(model, None if settings.model_path else profile.source.revision)
    on_hub = profile.source.hub is not None and settings.model_path is None
    revision = folder.name if on_hub else None  # the commit whose tokenizer is here, for all the rest
    checkpoint = _checkpoint(model, revision)
    max_tokens = min(checkpoint.get("max_position_embeddings", 10**9), profile.max_tokens or 10**9)
    # Not `torch.cuda.is_available()`: it starts CUDA in this process, and then not in one forked from it.
    on_cpu = current_platform.is_cpu()
    if on_cpu and profile.batch_invariant:
        raise ConfigurationError(
            f"{profile.name} has batch_invariant, a mode of vLLM's GPU kernels: there is no GPU"
        )
    causal = profile.template is not None  # a causal model may read a long prompt in several steps
    step_tokens = settings.step_tokens or (CPU_STEP if on_cpu else GPU_STEP)
    at_once = step_tokens if causal else max(step_tokens, max_tokens)
    arguments: dict[str, Any] = {
        "model": model,
        "runner": "pooling",
        "dtype": profile.dtype,
        "enforce_eager": settings.eager,
        "max_num_batched_tokens": at_once,
        "gpu_memory_utilization": settings.memory_share,
        "scheduling_policy": "priority",
        "enable_prefix_caching": settings.prefix_caching and causal,
        "disable_log_stats": False,
    }
    if on_cpu:
        arguments["distributed_executor_backend"] = "uni"
        if arguments["enable_prefix_caching"]:
            arguments["block_size"] = CPU_BLOCK
    if profile.max_tokens is not None:
        arguments["max_model_len"] = max_tokens
    if revision is not None:
        arguments["revision"] = revision
    wanted = profile.hf_overrides.get("architectures")
    if profile.hf_overrides and (wanted is None or checkpoint.get("architectures") != wanted):
        arguments["hf_overrides"] = profile.hf_overrides  # else it is a converted one, loaded as it is
    return arguments, folder


class VllmEngine:
    """Starts the engine (20 to 80 s on a CPU) and feeds it.

    Raises `ConfigurationError` when the profile's model can't be found.
    """

    def __init__(self, profile: ModelProfile, settings: EngineSettings) -> None:
        arguments, folder = engine_arguments(profile, settings)
        import vllm
        from vllm import EngineArgs, PoolingParams
        from vllm.inputs import tokens_input
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        self.tokenizer = FastTokenizer(folder)
        _check_tokens(profile, self.tokenizer)
        self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        self._engine.get_supported_tasks()  # asked for and kept now; else the first sequence waits for it
        self._tokens_input = tokens_input
        self._thread = threading.get_ident()
        self._ended = threading.Event()
        self._watch_processes()
        self._params = PoolingParams(task="embed" if profile.kind == "bi-encoder" else "classify")
        if profile.kind == "cross-encoder":
            # The logits themselves: a checkpoint's own idea of an activation differs from one to the next.
            self._params.use_activation = False
        config = self._engine.model_config
        self.info = EngineInfo(
            name="vllm",
            version=vllm.__version__,
            dtype=str(config.dtype).removeprefix("torch."),
            max_tokens=int(config.max_model_len),
            step_tokens=arguments["max_num_batched_tokens"],
            source=f"folder {folder.name}" if settings.model_path else profile.origin,
            revision=arguments.get("revision") or _revision(profile, settings, folder),
            batch_invariant=profile.batch_invariant,
            on_cpu=current_platform.is_cpu(),
        )

    def _watch_processes(self) -> None:
        """vLLM's synchronous client notes that its core's process ended, but leaves who waits for an output
        or an answer waiting for ever (seen in 0.32 when the process is killed): we wake both.
        """
        core = self._engine.engine_core
        manager = getattr(getattr(core, "resources", None), "engine_manager", None)
        if manager is None:
            return  # the core is in this process

        def watch() -> None:
            multiprocessing.connection.wait(manager.sentinels())
            self._ended.set()
            died = EngineDied("the engine's process ended")
            core.outputs_queue.put(died)
            for answer in list(core.utility_results.values()):
                answer.set_exception(died)

        threading.Thread(target=watch, name="engine-processes", daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    def add(self, request_id: str, prompt: Prompt, *, urgent: bool = False) -> None:
        params = self._params  # vLLM takes a copy of its own
        if prompt.second_from is not None:
            params = params.clone()
            params.extra_kwargs = {"compressed_token_type_ids": prompt.second_from}
        # In the engine's own form, which is not looked through again: half of what a sequence costs here.
        tokens = self._tokens_input(list(prompt.ids))
        self._engine.add_request(request_id, tokens, params, priority=0 if urgent else 1)

    def step(self) -> list[tuple[str, Output]]:
        if threading.get_ident() != self._thread:
            raise RuntimeError("the thread that made the engine steps it: docs/decisions/0011")
        return [
            (output.request_id, output.outputs.data.reshape(-1).tolist())
            for output in self._engine.step()
            if output.finished
        ]

    def abort(self, request_ids: Sequence[str]) -> None:
        self._engine.abort_request(list(request_ids))

    def statistics(self) -> dict[str, float]:
        """From vLLM's own metrics, which it keeps once per process: of the engine started last."""
        for metric in self._engine.get_metrics():
            if metric.name == "vllm:iteration_tokens_total":
                return {"steps": float(metric.count), "tokens": float(metric.sum)}
        return {"steps": 0.0, "tokens": 0.0}

    def close(self) -> None:
        self._engine.engine_core.shutdown()


def _environment(settings: EngineSettings, profile: ModelProfile) -> None:
    """vLLM reads its switches from the environment, once, at import."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if settings.separate_process else "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib or profile.kv_cache_gib)
    os.environ["VLLM_BATCH_INVARIANT"] = "1" if profile.batch_invariant else "0"
    if profile.dtype == "float32":
        # Triton's products, which are a GPU's attention, would round each factor to 10 bits: record 0017.
        os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
    # Jobs are tokenized beside one another already: more threads for one job would be in the engine's way.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for switch in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[switch] = "1"


def _folder(model: str, revision: str | None) -> Path:
    """Where a model's files lie: itself, or the hub's cache of that name."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=["tokenizer.json"]))
    except OSError as error:
        raise ConfigurationError(f"the tokenizer of {model} can't be had: {error}") from error


def _check_tokens(profile: ModelProfile, tokenizer: FastTokenizer) -> None:
    for word, expected in profile.tokens.items():
        found = tokenizer.encode_control(word)
        if found != [expected]:
            raise ConfigurationError(
                f"the profile {profile.name} says that {word!r} is token {expected}; this tokenizer makes "
                f"{found} of it: the checkpoint is not of this model, or its tokenizer is another"
            )


def _checkpoint(model: str, revision: str | None) -> dict[str, Any]:
    """The checkpoint's own config.json."""
    from transformers import PretrainedConfig

    found: dict[str, Any]
    found, _ = PretrainedConfig.get_config_dict(model, revision=revision)
    return found


def _revision(profile: ModelProfile, settings: EngineSettings, folder: Path) -> str:
    """Of a model that is not a hub's: a package's version, or a hash of the files that make the scores."""
    if settings.model_path is None and profile.source.package is not None:
        (distribution, *_) = packages_distributions()[profile.source.package]
        return version(distribution)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in HASHED and path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{digest.hexdigest()[:12]}"

"""vLLM as an engine: an owned `LLMEngine`, stepped by our thread. The only module that imports vLLM.

Why not `AsyncLLM`, and why in-process on a CPU: docs/decisions/0001.
"""

import multiprocessing.connection
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.errors import ConfigurationError, EngineDied
from jobs.settings import EngineSettings
from worker.engines.base import EngineInfo, Output
from worker.profiles import ModelProfile


class FastTokenizer:
    """The model's own `tokenizer.json`, with truncation and padding off: cutting is `prompts`' business."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = str(folder / "tokenizer.json")
        self._text, self._control = Tokenizer.from_file(path), Tokenizer.from_file(path)
        for tokenizer in (self._text, self._control):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        # A caller's text that looks like <|im_end|> is text: never a control token.
        self._text.encode_special_tokens = True

    def encode_batch(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        encodings = self._text.encode_batch_fast(list(texts), add_special_tokens=special)
        return [encoding.ids for encoding in encodings]

    def encode_control(self, text: str) -> list[int]:
        ids: list[int] = self._control.encode(text, add_special_tokens=False).ids
        return ids


class VllmEngine:
    """Starts the engine (20 to 80 s on a CPU) and feeds it.

    Raises `ConfigurationError` when the profile's model can't be found.
    """

    def __init__(self, profile: ModelProfile, settings: EngineSettings) -> None:
        _environment(settings)
        model = profile.locate(settings.model_path)
        import torch
        import vllm
        from vllm import EngineArgs, PoolingParams
        from vllm.v1.engine.llm_engine import LLMEngine

        on_cpu = not torch.cuda.is_available()
        arguments: dict[str, Any] = {
            "model": model,
            "runner": "pooling",
            "dtype": profile.dtype,
            "enforce_eager": settings.eager,
            "max_num_batched_tokens": max(settings.step_tokens, profile.max_tokens or 0),
            "gpu_memory_utilization": settings.memory_share,
            "disable_log_stats": False,
        }
        if on_cpu:
            arguments["distributed_executor_backend"] = "uni"
        if profile.max_tokens is not None:
            arguments["max_model_len"] = profile.max_tokens
        if profile.hf_overrides:
            arguments["hf_overrides"] = profile.hf_overrides
        self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        self._engine.get_supported_tasks()  # asked for and kept now; else the first sequence waits for it
        self._ended = threading.Event()
        self._watch_processes()
        self._params = PoolingParams(task="embed" if profile.kind == "bi-encoder" else "classify")
        if profile.kind == "cross-encoder":
            self._params.use_activation = True
        config = self._engine.model_config
        self.tokenizer = FastTokenizer(Path(_folder(config.model)))
        self.info = EngineInfo(
            name="vllm",
            version=vllm.__version__,
            dtype=str(config.dtype).removeprefix("torch."),
            max_tokens=int(config.max_model_len),
        )

    def _watch_processes(self) -> None:
        """vLLM's synchronous client notes that its core's process ended, but leaves who waits for an output or
        an answer waiting for ever (seen in 0.32 when the process is killed): we wake both.
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

    def add(self, request_id: str, tokens: Sequence[int]) -> None:
        self._engine.add_request(request_id, {"prompt_token_ids": list(tokens)}, self._params.clone())

    def step(self) -> list[tuple[str, Output]]:
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


def _environment(settings: EngineSettings) -> None:
    """vLLM reads its switches from the environment, once, at import."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if settings.separate_process else "0"
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
    os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
    for switch in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[switch] = "1"


def _folder(model: str) -> str:
    """Where a model's files lie: itself, or the hub's cache of that name."""
    if Path(model).is_dir():
        return model
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(model, allow_patterns=["tokenizer.json"]))
    except OSError as error:
        raise ConfigurationError(f"the tokenizer of {model} can't be had: {error}") from error

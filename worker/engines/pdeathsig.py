"""Ties a process to its parent's life: when the parent dies, however it dies, the kernel kills it too.

Registered as a `vllm.general_plugins` entry point, so vLLM runs `register` in each process that it starts.
Without it, an engine process outlives a worker that was killed with -9 and holds the accelerator.
"""

import ctypes
import multiprocessing
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def register() -> None:
    """Inside a process that multiprocessing started: die with the parent. Elsewhere: nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        die_with_parent()
        if os.getppid() != parent.pid:  # the parent died before the line above
            os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Asks Linux to send a signal to this process when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, number)

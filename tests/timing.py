"""How long something takes, whatever else the machine and the process do."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import thread_time


def thread_seconds(work: Callable[[], object]) -> float:
    """Seconds of this thread's processor, without a collection of garbage."""
    gc.disable()
    try:
        start = thread_time()
        work()
        return thread_time() - start
    finally:
        gc.enable()

"""Waiting for a moment, and how long work takes, whatever else the machine and the process do."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import monotonic, sleep, thread_time
from typing import Any


def thread_seconds(work: Callable[[], object]) -> float:
    """Seconds of this thread's processor, without a collection of garbage."""
    gc.disable()
    try:
        start = thread_time()
        work()
        return thread_time() - start
    finally:
        gc.enable()


def until(happens: Callable[[], Any], seconds: float = 120) -> Any:
    """What ``happens`` returns as soon as it is true."""
    begin = monotonic()
    while monotonic() - begin < seconds:
        if value := happens():
            return value
        sleep(0.01)
    raise AssertionError("it did not happen in time")

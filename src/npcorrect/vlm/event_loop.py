"""An event loop on a thread of its own, so that many requests wait at once.

The thread is a daemon: Ctrl-C ends the program even while a server hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
_CHECKING = 0.1
"""Seconds between checks whether a result is still wanted."""


class Background:
    """Runs coroutines for threads that wait for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="npcorrect-vlm", daemon=True)
        self._thread.start()

    def run(self, task: Coroutine[Any, Any, T], check: Callable[[], object] | None = None) -> T:
        """Run a coroutine on the loop and wait for its result; interrupted, cancel it.

        Its exception is raised here, and so is one that ``check``, called while it runs, raises.
        """
        future = asyncio.run_coroutine_threadsafe(task, self._loop)
        try:
            while check is not None and wait([future], _CHECKING).not_done:
                check()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs and end the thread; nothing may be run afterwards."""
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

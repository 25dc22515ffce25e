"""Sessions in processes of their own, by Ray: what their corrections say streams back here.

A worker's process writes nothing: it may be killed at any moment, and on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from itertools import count
from queue import SimpleQueue
from threading import Thread
from typing import Any

from PIL.Image import Image

from npcorrect.loop import Correction, Event, OnEvent
from npcorrect.records import Attempt, Checklist, Request
from npcorrect.result import Ended, Result
from npcorrect.session import Session
from npcorrect.workers import DEATHS, Pool, WorkerDiedError, set_threads

Open = Callable[[], AbstractContextManager[Session]]
Message = Event | Result


class SessionActor:
    """A session in a process of its own. One correction at a time; :meth:`stop` comes between."""

    def __init__(self, opened: Open, threads: int) -> None:
        self._opened, self._threads = opened, threads
        self._stack = ExitStack()
        self._session: Session | None = None
        self._current: tuple[int, Correction] | None = None
        self._stopped = -1

    def open(self) -> None:
        """Open the session; raises what opening raises."""
        self._session = self._stack.enter_context(self._opened())
        set_threads(self._threads)

    def correct(self, number: int, request: Request, original: Image | None) -> Iterator[Message]:
        """A correction's events, and its result after each attempt and at the end.

        Raises, as they are asked for, what the correction raises.
        """
        messages: SimpleQueue[Message | Exception | None] = SimpleQueue()

        def work() -> None:
            try:
                self._follow(number, request, original, messages.put)
                messages.put(None)
            except Exception as error:
                messages.put(error)

        Thread(target=work, daemon=True).start()
        while (message := messages.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    def stop(self, number: int) -> None:
        """Stop a correction, even one that has not begun."""
        self._stopped = max(self._stopped, number)
        current = self._current
        if current and current[0] <= number:
            current[1].stop()

    def _follow(
        self,
        number: int,
        request: Request,
        original: Image | None,
        say: Callable[[Message], None],
    ) -> None:
        assert self._session is not None
        correction = self._session.correct(request, say, original=original)
        self._current = number, correction
        if self._stopped >= number:
            correction.stop()
        for _ in correction:
            say(_sendable(correction.result))
        say(_sendable(correction.result))


class RemoteSession:
    """A session whose corrections are made by an actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor, self._numbers = ray, actor, count()

    def correct(
        self, request: Request, on_event: OnEvent, *, original: Image | None = None
    ) -> RemoteCorrection:
        """A correction of one prompt; it begins at once."""
        return RemoteCorrection(
            self._ray, self._actor, next(self._numbers), request, on_event, original
        )


class RemoteCorrection(Iterator[Attempt]):
    """A correction under way elsewhere; see :class:`npcorrect.loop.Correction`.

    Raises, as attempts are asked for:
        InputError: the request cannot work.
        WorkerDiedError: the process that makes it has died.
    """

    def __init__(
        self,
        ray: Any,
        actor: Any,
        number: int,
        request: Request,
        on_event: OnEvent,
        original: Image | None,
    ) -> None:
        self._ray, self._actor, self._number, self._tell = ray, actor, number, on_event
        self.result = Result(request, Checklist(request.prompt, ()), ())
        begin = actor.correct.options(num_returns="streaming")
        self._stream = begin.remote(number, request, original)

    def __next__(self) -> Attempt:
        """The next attempt, drawn and verified; events are told on the way."""
        with _failing_as_here(self._ray):
            for reference in self._stream:
                message = self._ray.get(reference)
                if isinstance(message, Event):
                    self._tell(message)
                    continue
                known, self.result = len(self.result.attempts), message
                if len(message.attempts) > known:
                    return self.result.attempts[-1]
        raise StopIteration

    @property
    def ended(self) -> Ended | None:
        """Why no attempt follows; None while one may."""
        return self.result.ended

    def stop(self) -> None:
        """End after the present step or question; from any thread."""
        self._actor.stop.remote(self._number)


@contextmanager
def remote_session(ray: Any, pool: Pool, opened: Open) -> Iterator[RemoteSession]:
    """A session in a new process, which ends with the block.

    Raises:
        InputError: the session cannot be opened.
        WorkerDiedError: its process died again and again while it was opened.
    """
    for deaths in range(1, DEATHS + 1):
        actor = pool.actor(ray, SessionActor, max_concurrency=2).remote(opened, pool.threads)
        try:
            with _failing_as_here(ray):
                ray.get(actor.open.remote())
            break
        except WorkerDiedError:
            if deaths == DEATHS:
                raise
    try:
        yield RemoteSession(ray, actor)
    finally:
        ray.kill(actor)


@contextmanager
def _failing_as_here(ray: Any) -> Iterator[None]:
    """Errors as they would be raised in this process."""
    try:
        yield
    except ray.exceptions.RayActorError as error:
        reason = str(error).splitlines()[0]
        raise WorkerDiedError(
            f"A worker died ({reason}); if memory ran out, use fewer --workers."
        ) from None
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _sendable(result: Result) -> Result:
    """A result without what redrawings begin with, which stays where they are drawn."""
    attempts = (
        replace(attempt, generation=replace(attempt.generation, origin=None))
        for attempt in result.attempts
    )
    return replace(result, attempts=tuple(attempts))

"""Workers as Ray actors, on this machine or on a cluster; one that dies is replaced.

Imports neither Ray nor torch until workers are started.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from npcorrect.errors import NpcError, SettingsError

J = TypeVar("J")
D_co = TypeVar("D_co", covariant=True)
D = TypeVar("D")
J_contra = TypeVar("J_contra", contravariant=True)
DEATHS = 3
"""Workers that may die on one job before all is given up."""


class WorkerDiedError(NpcError):
    """The process of a worker has died; what it was at can be begun again by another one."""


class Performer(Protocol[J_contra, D_co]):
    """What a worker is: it loads at its first job, and does one after the other."""

    def perform(self, job: J_contra, /) -> D_co:
        """What comes of a job; raises what loading raises."""
        ...


def set_threads(count: int) -> None:
    """Let torch, where it is loaded, use so many threads."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def require_ray() -> None:
    """Refuse workers where Ray is not installed.

    Raises:
        SettingsError: it is not.
    """
    if find_spec("ray") is None:
        raise SettingsError(
            "More than one worker needs Ray, which is not installed; "
            "install npcorrect[ray], or use --workers 1."
        )


@dataclass(frozen=True)
class Pool:
    """Workers as Ray actors.

    ``address`` is that of a running cluster; without one, Ray starts on this machine. Every worker
    takes ``threads`` processor cores and ``gpus`` accelerators.
    """

    workers: int = 1
    threads: int = 1
    gpus: int = 0
    address: str | None = None

    @contextmanager
    def started(self) -> Iterator[Any]:
        """The module of Ray, connected; let go of at the end.

        Raises:
            SettingsError: Ray is not installed, or there is no cluster at the address.
        """
        require_ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._start(ray)
        try:
            yield ray
        finally:
            ray.shutdown()

    def actor(self, ray: Any, kind: type, **options: Any) -> Any:
        """Starts an actor of a class by ``actor(...).remote(arguments)``."""
        return ray.remote(kind).options(num_cpus=self.threads, num_gpus=self.gpus, **options)

    def perform(
        self,
        kind: Callable[..., Performer[J, D]],
        arguments: Sequence[Any],
        groups: Sequence[Sequence[J]],
        title: Callable[[J], str],
    ) -> Iterator[D]:
        """Do all jobs, in any order, and yield what comes of each as it is finished.

        The jobs of a group go to one worker, one after the other. ``kind(*arguments)`` makes a
        worker; ``title`` says in messages which job it was.

        Raises:
            SettingsError: Ray is not installed, or there is no cluster at the address.
            NpcError: workers die again and again on one job.
        """
        with self.started() as ray:
            yield from self._performed(ray, kind, arguments, deque(groups), title)

    def _start(self, ray: Any) -> None:
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            options = {
                "address": "local",
                "num_cpus": self.workers * self.threads,
                "num_gpus": self.workers * self.gpus,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SettingsError(
                f"Ray cannot be used at {options['address']!r} ({error}); check that it runs, and "
                "set RAY_AUTH_MODE=token where its cluster asks for a token."
            ) from None

    def _performed(
        self,
        ray: Any,
        kind: Any,
        arguments: Sequence[Any],
        waiting: deque[Sequence[J]],
        title: Callable[[J], str],
    ) -> Iterator[D]:
        actor = self.actor(ray, kind)
        running: dict[Any, tuple[Any, Sequence[J], int]] = {}

        def give(worker: Any, jobs: Sequence[J], deaths: int = 0) -> None:
            running[worker.perform.remote(jobs[0])] = worker, jobs, deaths

        for _ in range(min(self.workers, len(waiting))):
            give(actor.remote(*arguments), waiting.popleft())
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            worker, jobs, deaths = running.pop(ready)
            try:
                done = ray.get(ready)
            except ray.exceptions.RayActorError as error:
                if deaths + 1 == DEATHS:
                    raise _given_up(title(jobs[0]), error) from None
                give(actor.remote(*arguments), jobs, deaths + 1)
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            yield done
            rest = jobs[1:] or (waiting.popleft() if waiting else ())
            if rest:
                give(worker, rest)


def _given_up(title: str, error: Exception) -> NpcError:
    reason = str(error).splitlines()[0]
    return NpcError(
        f"{DEATHS} workers died on {title} ({reason}); "
        "if memory ran out, use fewer --workers. What was finished is kept."
    )

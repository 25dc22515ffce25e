"""Workers as Ray actors, on this machine or on a cluster; one that dies is replaced.

Imports neither Ray nor torch until workers are started.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, Generic, Protocol, TypeVar

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
        """What comes of a job; raises what loading raises.

        Threads call it at the same time where the pool gives a worker several jobs at once.
        """
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

    ``address`` is that of a running cluster; without one, it is the cluster to which the program is
    connected, or else Ray starts on this machine. Every worker takes ``threads`` processor cores
    and ``gpus`` accelerators; one that finds no room waits until another ends.
    """

    workers: int = 1
    threads: int = 1
    gpus: int = 0
    address: str | None = None

    @contextmanager
    def started(self) -> Iterator[Any]:
        """The module of Ray, connected; let go of at the end, but by a program that was connected.

        Raises:
            SettingsError: Ray is not installed, there is no cluster at the address, or the program
                is connected already and an address was given.
        """
        require_ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        if self.address is None and ray.is_initialized():
            yield ray
            return
        self._start(ray)
        try:
            yield ray
        finally:
            ray.shutdown()

    def actor(self, ray: Any, kind: Callable[..., Any], **options: Any) -> Any:
        """Starts an actor of a class by ``actor(...).remote(arguments)``."""
        return ray.remote(kind).options(num_cpus=self.threads, num_gpus=self.gpus, **options)

    def perform(
        self,
        kind: Callable[..., Performer[J, D]],
        arguments: Sequence[Any],
        groups: Sequence[Sequence[J]],
        title: Callable[[J], str],
        at_once: int = 1,
    ) -> Iterator[D]:
        """Do all jobs, in any order, and yield what comes of each as it is finished.

        The jobs of a group go to one worker, in their order, ``at_once`` of them at a time.
        ``kind(*arguments)`` makes a worker; ``title`` says in messages which job it was.

        Raises:
            SettingsError: Ray is not installed, or there is no cluster at the address.
            NpcError: workers die again and again on one job.
        """
        with self.started() as ray:
            actor = self.actor(ray, kind, max_concurrency=at_once)
            start = partial(actor.remote, *arguments)
            workers = [_Worker[J](start()) for _ in range(min(self.workers, len(groups)))]
            try:
                yield from self._performed(ray, workers, start, deque(groups), title, at_once)
            finally:  # The cluster may be there for longer.
                for worker in workers:
                    ray.kill(worker.actor)

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
        workers: list[_Worker[J]],
        start: Callable[[], Any],
        groups: deque[Sequence[J]],
        title: Callable[[J], str],
        at_once: int,
    ) -> Iterator[D]:
        while True:
            for count in range(1, at_once + 1):
                for worker in workers:
                    worker.fill(groups, count)
            for worker in workers:  # One that nothing is left for makes room for one that waits.
                if not worker.running:
                    ray.kill(worker.actor)
            workers[:] = [worker for worker in workers if worker.running]
            running = {call: worker for worker in workers for call in worker.running}
            if not running:
                return
            (ready,), _ = ray.wait(list(running), num_returns=1)
            worker = running[ready]
            try:
                done = ray.get(ready)
            except ray.exceptions.RayActorError as error:
                job = worker.replace(start)
                if worker.deaths == DEATHS:
                    raise _given_up(title(job), error) from None
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            worker.finish(ready)
            yield done


@dataclass
class _Worker(Generic[J]):
    """An actor, its running calls with their jobs, and the rest of its group.

    Where it dies at several jobs, as many are done ``alone`` then, to find the one that it dies on.
    """

    actor: Any
    running: dict[Any, J] = field(default_factory=dict)
    rest: deque[J] = field(default_factory=deque)
    alone: int = 0
    deaths: int = 0

    def fill(self, groups: deque[Sequence[J]], count: int) -> None:
        """Begin jobs until so many run, as long as there are any."""
        while len(self.running) < (1 if self.alone else count) and (self.rest or groups):
            if not self.rest:
                self.rest.extend(groups.popleft())
            job = self.rest.popleft()
            self.running[self.actor.perform.remote(job)] = job

    def finish(self, call: Any) -> None:
        """Take note of a call that has returned."""
        del self.running[call]
        self.alone = max(self.alone - 1, 0)
        self.deaths = 0

    def replace(self, start: Callable[[], Any]) -> J:
        """Let a new actor do again what the dead one was at; return the first of these jobs."""
        jobs = list(self.running.values())
        self.actor = start()
        self.running.clear()
        self.rest.extendleft(reversed(jobs))
        self.alone = max(self.alone, len(jobs))
        self.deaths = self.deaths + 1 if len(jobs) == 1 else 0
        return jobs[0]


def _given_up(title: str, error: Exception) -> NpcError:
    reason = str(error).splitlines()[0]
    return NpcError(
        f"{DEATHS} workers died on {title} ({reason}); "
        "if memory ran out, use fewer --workers. What was finished is kept."
    )

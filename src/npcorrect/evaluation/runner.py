"""Carries out a run: gives jobs to workers, keeps what they finish. Imports no torch.

Jobs of one sample go to one worker, one after the other, because they share pictures. Only the
driver writes.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from secrets import token_hex
from typing import Any

from npcorrect.errors import NpcError, SettingsError
from npcorrect.evaluation.benchmark import Sample
from npcorrect.evaluation.manifest import Manifest
from npcorrect.evaluation.method import Tools
from npcorrect.evaluation.records import Key, Record
from npcorrect.evaluation.store import Store
from npcorrect.evaluation.work import Done, Job, Worker

Load = Callable[[], Tools]
Bundle = tuple[Job, ...]
"""The jobs of one sample."""
Crew = Callable[[Load, Sequence[Bundle]], Iterator[Done]]
"""Does all jobs, in any order, and yields each as it is finished."""
OnRecord = Callable[[Record], None]

DEATHS = 3
"""Workers that may die on one job before the run gives up."""


def run(
    store: Store,
    manifest: Manifest,
    samples: Sequence[Sample],
    load: Load,
    crew: Crew,
    on_record: OnRecord,
) -> None:
    """Do what the store does not have yet, and keep each record at once.

    ``on_record`` is told of every record, first of those that are there already.

    Raises:
        OutputError: the store cannot be written.
        SettingsError: the store holds another run.
    """
    with store.writing(manifest) as writer:
        for record in store.records():
            on_record(record)
        bundles = todo(
            samples, manifest.settings.methods, manifest.settings.images, writer.finished()
        )
        if not bundles:
            return
        for done in crew(load, bundles):
            writer.add(done)
            on_record(done.record)


def todo(
    samples: Sequence[Sample], methods: Sequence[str], images: int, finished: set[Key]
) -> list[Bundle]:
    """The jobs that are left, by sample."""
    jobs = (Job(method, sample, images) for sample in samples for method in methods)
    left = (job for job in jobs if job.key not in finished)
    grouped = groupby(left, key=lambda job: (job.sample.id, job.sample.repeat))
    return [tuple(jobs) for _, jobs in grouped]


def in_process(load: Load, bundles: Sequence[Bundle]) -> Iterator[Done]:
    """One worker, here."""
    worker = Worker(load)
    for bundle in bundles:
        for job in bundle:
            yield worker.perform(job)


class RayCrew:
    """Workers as Ray actors, each with its own tools; one that dies is replaced.

    ``address`` is that of a running cluster; without one, Ray starts on this machine. Every worker
    takes ``threads`` processor cores and ``gpus`` accelerators.
    """

    def __init__(
        self, workers: int, threads: int = 1, gpus: int = 0, address: str | None = None
    ) -> None:
        self._workers, self._threads, self._gpus = workers, threads, gpus
        self._address = address

    def __call__(self, load: Load, bundles: Sequence[Bundle]) -> Iterator[Done]:
        """Do all jobs.

        Raises:
            SettingsError: Ray is not installed, or there is no cluster at the address.
            NpcError: workers die again and again on one job.
        """
        ray = _ray(local=self._address is None)
        self._start(ray)
        try:
            yield from self._work(ray, load, deque(bundles))
        finally:
            ray.shutdown()

    def _start(self, ray: Any) -> None:
        options: dict[str, Any] = {"address": self._address}
        if self._address is None:
            options = {
                "address": "local",
                "num_cpus": self._workers * self._threads,
                "num_gpus": self._workers * self._gpus,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise SettingsError(f"Ray cannot start at {options['address']!r}: {error}") from None

    def _work(self, ray: Any, load: Load, waiting: deque[Bundle]) -> Iterator[Done]:
        options = {"num_cpus": self._threads, "num_gpus": self._gpus}
        actor = ray.remote(Worker).options(**options)
        running: dict[Any, tuple[Any, Bundle, int]] = {}

        def give(worker: Any, bundle: Bundle, deaths: int = 0) -> None:
            running[worker.perform.remote(bundle[0])] = worker, bundle, deaths

        for _ in range(min(self._workers, len(waiting))):
            give(actor.remote(load), waiting.popleft())
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            worker, bundle, deaths = running.pop(ready)
            try:
                done = ray.get(ready)
            except ray.exceptions.RayActorError as error:
                if deaths + 1 == DEATHS:
                    raise _given_up(bundle[0], error) from None
                give(actor.remote(load), bundle, deaths + 1)
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            yield done
            rest = bundle[1:] or (waiting.popleft() if waiting else ())
            if rest:
                give(worker, rest)


def _given_up(job: Job, error: Exception) -> NpcError:
    reason = str(error).splitlines()[0]
    return NpcError(
        f"{DEATHS} workers died on {job.method} for the prompt {job.sample.prompt!r} ({reason}); "
        "if memory ran out, use fewer --workers. What was finished is kept."
    )


def _ray(local: bool) -> Any:
    """Ray, which reads these when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if local and "ray" not in sys.modules:
        # A cluster of our own listens on all interfaces; nobody without this token may use it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))
    try:
        import ray
    except ImportError:
        raise SettingsError(
            "More than one worker needs Ray, which is not installed; "
            "install npcorrect[ray], or use --workers 1."
        ) from None
    return ray

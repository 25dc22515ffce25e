"""Two workers that share the threads of a machine against one worker that has all of them, in turn.

    pip install 'npcorrect[ray]'
    python benchmarks/workers.py --pictures 64 --rounds 3

Needs Ray, through which one worker goes too, so that the arms differ in nothing else; the model is
the embedded one, so nothing is fetched and no card is needed. Each arm draws the same plain
pictures of MiniBench. Counting begins when every worker has finished its first picture, so that
starting Ray and loading the model are left out; what they take is printed beside it. Compare the
ratio, and its spread over the rounds, not the rates; a load above that of the arms themselves says
that the machine is not quiet.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

from npcorrect.errors import NpcError
from npcorrect.evaluation.benchmarks import find
from npcorrect.evaluation.run import runner, tools
from npcorrect.evaluation.run.manifest import RunSettings, samples
from npcorrect.evaluation.run.worker import Done, Job, Worker
from npcorrect.vlm.settings import VLMTable
from npcorrect.workers import Pool


class NamedWorker(Worker):
    """A worker of a run that tells its process beside what it has done."""

    def perform(self, job: Job) -> tuple[int, Done]:  # type: ignore[override]
        """The process, and the job's record and pictures."""
        return os.getpid(), super().perform(job)


@dataclass(frozen=True)
class Count:
    """What was drawn within the seconds that count, and the seconds before them."""

    images: int
    evaluations: int
    seconds: float
    before: float

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Arm:
    """A number of workers and of threads for each of them."""

    workers: int
    threads: int

    def __str__(self) -> str:
        return f"{self.workers} x {self.threads} threads"

    def count(self, pictures: int) -> Count:
        """Draw so many pictures."""
        start, seen, images, evaluations, ready = perf_counter(), set[int](), 0, 0, 0.0
        for process, done in self._drawn(pictures):
            if ready:
                cost = done.record.steps[-1].cost
                images, evaluations = images + cost.images, evaluations + cost.evaluations
            seen.add(process)
            if not ready and len(seen) == self.workers:
                ready = perf_counter()
        if not images:
            raise NpcError(f"{pictures} pictures are too few for {self}; give more --pictures.")
        return Count(images, evaluations, perf_counter() - ready, ready - start)

    def _drawn(self, pictures: int) -> Iterator[tuple[int, Done]]:
        settings = RunSettings("mini", ("base",), images=1, limit=pictures)
        groups = runner.todo(samples(settings, find("mini")), settings.methods, 1, set())
        load = partial(tools.load, settings, None, VLMTable(), self.threads)
        pool = Pool(self.workers, self.threads)
        return pool.perform(NamedWorker, (load,), groups, lambda job: job.sample.prompt)


def measure(arms: tuple[Arm, Arm], pictures: int, rounds: int) -> list[float]:
    """How many times as fast the first arm is in each round; each picture's counts are printed."""
    ratios = []
    for number in range(rounds):
        rates = {}
        for arm in arms if number % 2 == 0 else arms[::-1]:
            load = os.getloadavg()[0]
            made = arm.count(pictures)
            rates[arm] = made.rate
            print(
                f"round {number + 1}, load {load:.1f} before: {arm}: {made.images} images, "
                f"{made.evaluations} evaluations in {made.seconds:.1f} s, {made.rate:.2f} "
                f"images/s; all workers ready after {made.before:.1f} s",
                flush=True,
            )
        ratios.append(rates[arms[0]] / rates[arms[1]])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2, help="of both arms")
    options = parser.parse_args()
    many = Arm(options.workers, max(options.threads // options.workers, 1))
    one = Arm(1, many.workers * many.threads)
    try:
        ratios = measure((many, one), options.pictures, options.rounds)
    except NpcError as error:
        parser.exit(2, f"{error}\n")
    print(
        f"{many} against {one} on {os.cpu_count()} cores: ratio {median(ratios):.2f} "
        f"(from {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()

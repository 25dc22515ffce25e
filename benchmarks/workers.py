"""Two workers with one thread each against one worker with two threads, in turn.

    python benchmarks/workers.py --pictures 24 --rounds 3

Each arm draws the same plain pictures of MiniBench. Pictures per second are counted from the first
finished picture to the last, so that starting Ray and loading the model are left out; both are
printed beside it. Compare the ratio, and its spread over the rounds, not the rates.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

from npcorrect.evaluation.benchmarks import find
from npcorrect.evaluation.run import runner, tools
from npcorrect.evaluation.run.manifest import RunSettings, samples
from npcorrect.evaluation.run.runner import Executor
from npcorrect.vlm.settings import VLMTable


@dataclass(frozen=True)
class Arm:
    """A number of workers and of threads for each of them."""

    workers: int
    threads: int

    def rate(self, pictures: int) -> tuple[float, float]:
        """Pictures per second once it runs, and seconds until the first was there."""
        settings = RunSettings("mini", ("base",), images=1, limit=pictures)
        groups = runner.todo(samples(settings, find("mini")), settings.methods, 1, set())
        load = partial(tools.load, settings, None, VLMTable(), self.threads)
        # One worker goes through Ray too, so that the arms differ in nothing else.
        executor: Executor = runner.RayExecutor(self.workers, self.threads)
        start = perf_counter()
        times = [perf_counter() for _ in executor(load, groups)]
        return (len(times) - 1) / (times[-1] - times[0]), times[0] - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    two, one = Arm(2, 1), Arm(1, 2)
    ratios = []
    for number in range(options.rounds):
        arms = (two, one) if number % 2 == 0 else (one, two)
        rates = {}
        for arm in arms:
            rates[arm], first = arm.rate(options.pictures)
            print(
                f"round {number + 1}: {arm.workers} x {arm.threads} threads: "
                f"{rates[arm]:.2f} pictures/s, the first after {first:.1f} s",
                flush=True,
            )
        ratios.append(rates[two] / rates[one])
    print(
        f"2 workers x 1 thread against 1 worker x 2 threads, {options.pictures} pictures of 48 "
        f"evaluations: ratio {median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()

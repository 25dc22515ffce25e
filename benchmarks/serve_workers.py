"""Jobs a minute of ``npc serve`` with two workers against one, each with one thread, in turn.

    python benchmarks/serve_workers.py --jobs 40 --rounds 3

Every job draws one picture of the embedded model. Time is counted from the first finished job to
the last, so that starting Ray and loading the models are left out. Compare the ratio, and its
spread over the rounds, not the rates.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import httpx2
from faces import serving

POLL = 0.5
"""Seconds between two questions; a lone worker draws in the process that answers them."""
PROMPT = "three red apples and one blue cup"


def rate(workers: int, jobs: int) -> float:
    """Jobs a minute, once every worker has loaded its model."""
    with TemporaryDirectory() as folder:
        more = ("--workers", str(workers)) if workers > 1 else ()
        with (
            serving(Path(folder), *more) as address,
            httpx2.Client(base_url=address, timeout=600) as client,
        ):
            times = done_at(client, jobs + workers)[workers - 1 :]
    return 60 * (len(times) - 1) / (times[-1] - times[0])


def done_at(client: httpx2.Client, jobs: int) -> list[float]:
    """When the first job, the second and so on were done."""
    for seed in range(jobs):
        body = {"prompt": PROMPT, "seed": seed, "candidates": 0}
        client.post("/v1/jobs", json=body).raise_for_status()
    times: list[float] = []
    while len(times) < jobs:
        listed = client.get("/v1/jobs", params={"limit": 100}).json()["jobs"]
        ended = sum(job["state"] == "ended" for job in listed)
        times += [perf_counter()] * (ended - len(times))
        sleep(POLL)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    ratios = []
    for number in range(options.rounds):
        arms = (2, 1) if number % 2 == 0 else (1, 2)
        rates = {workers: rate(workers, options.jobs) for workers in arms}
        ratios.append(rates[2] / rates[1])
        print(
            f"round {number + 1}: {rates[2]:.1f} jobs a minute with 2 workers, {rates[1]:.1f} "
            f"with 1; load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
    print(f"ratio {median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()

"""Runs a benchmark in children that are killed at random moments: ``killing.py FOLDER KILLS``.

Prints how many children were killed in the middle. A program of its own, because a process that
forks must have no threads. ``FOLDER/log`` has a line for each record that was committed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

from npcorrect.evaluation.run import manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, fake_manifest, fake_tools
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store


def begin(folder: Path) -> None:
    """A whole run, unless something stops it."""
    made = fake_manifest(seeds=4)
    samples = manifest.samples(made.settings, FakeBench())
    store = Store(folder / "run")
    known = {r.key for r in store.records()} if store.manifest_path.exists() else set()
    with (folder / "log").open("a") as log:

        def note(record: Record) -> None:
            if record.key not in known:
                print(record.key, file=log, flush=True)

        load = partial(fake_tools, 0.0005)
        runner.run(store, made, samples, load, runner.in_process, note)


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(kills)
    killed = 0
    for _ in range(kills):
        child = os.fork()
        if not child:
            begin(folder)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    begin(folder)
    print(killed)


if __name__ == "__main__":
    main()

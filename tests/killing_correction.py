"""Corrects a prompt in children that are killed at random moments: ``FOLDER KILLS``.

A program of its own, because a process that forks must have no threads. After each kill every file
of the folder must be whole, and what was recorded once must still be there. Prints the kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from PIL import Image

from npcorrect.evaluation.run.fake import FakeRoles, fake_model
from npcorrect.output import OutputFolder, correct_into
from npcorrect.records import Drawing, Request
from npcorrect.session import Session, SessionSettings
from npcorrect.settings import LoadSettings, RoleSettings

REQUEST = Request("three red apples", seed=5, candidates=8, ranker="source")


def slowly(drawing: Drawing) -> None:
    time.sleep(0.004)


def correct(folder: Path) -> None:
    """Go on with the correction, to its end unless something stops it."""
    settings = SessionSettings(load=LoadSettings(model="mini"), roles=RoleSettings())
    place = OutputFolder(folder, REQUEST, settings)
    if place.state() == "finished":
        return
    with place.claimed() as begun:
        correct_into(
            place, begun, Session(fake_model(slowly), FakeRoles().roles(), settings=settings)
        )


def recorded(folder: Path) -> int:
    """The attempts that are recorded; every file in the folder is whole."""
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    path = folder / "result.json"
    if not path.is_file():
        return 0
    attempts = json.loads(path.read_text())["attempts"]
    assert all((folder / attempt["file"]).is_file() for attempt in attempts)
    return len(attempts)


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    rng, killed, done = random.Random(kills), 0, 0
    for number in range(kills):
        child = os.fork()
        if not child:
            correct(folder)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        now = recorded(folder)
        assert now >= done, f"kill {number} lost an attempt"
        done = now
        if json.loads((folder / "result.json").read_text())["ended"] if done else False:
            folder, done = folder.with_name(f"{folder.name}+"), 0
    correct(folder)
    print(killed)


if __name__ == "__main__":
    main()

"""Several workers: each in a process of its own, which may be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from npcorrect.errors import ModelError
from npcorrect.files import write_text
from npcorrect.records import Drawing
from npcorrect.serve.remote import remote_session
from npcorrect.session import Session
from npcorrect.workers import Pool
from tests.serve.asking import events, kept, submit
from tests.serve.fakes import FakeRoles, FakeServer, served
from tests.timing import until

pytestmark = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed.")
POOL = Pool(2)


@contextmanager
def elsewhere(folder: Path) -> Iterator[Session]:
    """A session that leaves the number of its process for each picture's seed.

    It is held in the middle of a picture until a process is killed.
    """

    def holds(drawing: Drawing, step: int) -> bool:
        if step == 0:
            write_text(folder / f"pid-{drawing.seed}", str(os.getpid()))
        return step == 2 and not (folder / "killed").exists()

    yield Session(FakeServer(folder, holds=holds).model(), FakeRoles().roles())


@contextmanager
def unloadable() -> Iterator[Session]:
    raise ModelError("There is no such model.")
    yield


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with POOL.started() as ray:
        yield ray


@contextmanager
def serving(ray: Any, folder: Path) -> Iterator[httpx2.Client]:
    """Asks a server of two workers."""
    opened = partial(remote_session, ray, POOL, partial(elsewhere, folder))
    server = FakeServer(folder, opened=opened, workers=2)
    with served(server) as client:
        yield client


def draws(folder: Path, *seeds: int) -> bool:
    return all((folder / f"pid-{seed}").exists() for seed in seeds)


def test_two_jobs_at_a_time_of_which_one_is_stopped_at_once(ray: Any, tmp_path: Path) -> None:
    with serving(ray, tmp_path) as client:
        jobs = [submit(client, seed=seed) for seed in (100, 200, 300)]
        until(partial(draws, tmp_path, 100, 200))
        states = [client.get(f"/v1/jobs/{job}").json()["state"] for job in jobs]
        assert states == ["running", "running", "queued"]
        assert (tmp_path / "pid-100").read_text() != (tmp_path / "pid-200").read_text()
        assert client.delete(f"/v1/jobs/{jobs[0]}").json()["ended"] == "stopped"
        assert kept(client, jobs[0])[-1].body["ended"] == "stopped"
        until(partial(draws, tmp_path, 300))
        assert next(event for event in events(client, jobs[1]) if event.number is None)
        for job in jobs[1:]:
            client.delete(f"/v1/jobs/{job}")


def test_a_worker_that_is_killed_loses_nothing(ray: Any, tmp_path: Path) -> None:
    with serving(ray, tmp_path) as client:
        jobs = [submit(client, seed=seed) for seed in (100, 200)]
        until(partial(draws, tmp_path, 100, 200))
        os.kill(int((tmp_path / "pid-200").read_text()), signal.SIGKILL)
        (tmp_path / "killed").touch()
        told = [[event.kind for event in kept(client, job)] for job in jobs]
        assert [kinds.count("start") for kinds in told] == [1, 2]
        assert [kinds.count("end") for kinds in told] == [1, 1]
        for job in jobs:
            view = client.get(f"/v1/jobs/{job}").json()
            assert (view["ended"], view["attempts"]) == ("accepted", 2)
            assert client.get(f"/v1/jobs/{job}/attempts/1.png").status_code == 200


def test_a_session_that_cannot_be_opened_says_why(ray: Any) -> None:
    with pytest.raises(ModelError, match="no such model"), remote_session(ray, POOL, unloadable):
        pass

"""Jobs survive the server: whatever ends it, each of them is done, and ends once."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from npcorrect.errors import OutputError
from npcorrect.records import Request
from npcorrect.serve.store import MAX_STARTS, open_store
from tests.e2e.program import inside
from tests.serve.asking import PROMPT, kept, submit
from tests.serve.fakes import FakeServer, client_of, redrawing, served
from tests.timing import until

JOBS, KILLED = 20, (4, 9, 14)
"""How many jobs there are, and in which of them the server is killed."""
PROGRAM = """
import sys, time
from pathlib import Path
from tests.serve.fakes import FakeServer, listening
held = int(sys.argv[2])
server = FakeServer(Path(sys.argv[1]), holds=lambda drawing, step: drawing.seed == held)
with listening(server) as address:
    print(address, flush=True)
    time.sleep(600)
"""


@contextmanager
def running(folder: Path, held: int) -> Iterator[httpx2.Client]:
    """A server in a process of its own, held in a job, and killed at the end of the block."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(held)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            address = server.stdout.readline().strip()
            with client_of(address) as client:
                yield client
        finally:
            server.kill()


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "jobs.sqlite")) as connection:
        return connection.execute(query).fetchall()


def is_running(client: httpx2.Client, job: str) -> bool:
    return bool(client.get(f"/v1/jobs/{job}").json()["state"] == "running")


def test_killed_three_times_no_job_is_lost_or_done_twice(tmp_path: Path) -> None:
    with running(tmp_path, KILLED[0]) as client:
        jobs = [submit(client, seed=seed) for seed in range(JOBS)]
        until(partial(is_running, client, jobs[KILLED[0]]))
    for held in KILLED[1:]:
        with running(tmp_path, held) as client:
            until(partial(is_running, client, jobs[held]))
    with running(tmp_path, JOBS) as client:
        assert kept(client, jobs[-1])[-1].body["ended"] == "accepted"
    assert rows(tmp_path, "select id, ended, attempts from job order by number") == [
        (job, "accepted", 2) for job in jobs
    ]
    ends = rows(tmp_path, "select job, count(*) from event where kind = 'end' group by job")
    assert dict(ends) == dict.fromkeys(jobs, 1)
    starts = rows(tmp_path, "select sum(starts) from job")[0][0]
    assert starts == JOBS + len(KILLED)


def test_a_job_under_way_begins_anew_and_clients_are_told(tmp_path: Path) -> None:
    with served(FakeServer(tmp_path, holds=redrawing)) as client:
        job = submit(client)
        until(lambda: client.get(f"/v1/jobs/{job}").json()["attempts"] == 1)
    with served(FakeServer(tmp_path)) as client:
        told = [event.kind for event in kept(client, job)]
        assert told.count("start") == 2
        assert told.count("end") == 1
        assert told[told.index("start", 1) :].count("attempt") == 2
        view = client.get(f"/v1/jobs/{job}").json()
        assert (view["ended"], view["attempts"]) == ("accepted", 2)


def test_a_job_that_ends_the_server_again_and_again_is_given_up(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        (job,) = store.add([Request(PROMPT)], 1)
    for _ in range(MAX_STARTS):
        with open_store(tmp_path) as store:
            assert store.claim()
    with open_store(tmp_path) as store:
        assert store.claim() is None
        given_up = store.job(job.id)
        assert given_up
        assert given_up.ended == "error"
        assert f"{MAX_STARTS} times" in given_up.error


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        open_store(tmp_path),
        pytest.raises(OutputError, match="Another server"),
        open_store(tmp_path),
    ):
        pass


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("this is no database, but a text that someone wrote")
    with pytest.raises(OutputError, match="cannot be read"), open_store(tmp_path):
        pass


def test_the_end_of_the_server_does_not_wait_for_the_job(tmp_path: Path) -> None:
    with served(FakeServer(tmp_path, holds=redrawing)) as client:
        job = submit(client)
        until(lambda: client.get(f"/v1/jobs/{job}").json()["attempts"] == 1)
    assert "npcorrect-worker" not in {thread.name for thread in threading.enumerate()}


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _link_to_a_file(path: Path) -> None:
    (path.parent / "precious").write_text("precious")
    path.symlink_to("precious")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("name", ["jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-journal"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a folder"),
        (_loop, "a link"),
        (_link_to_a_file, "a link"),
        (lambda path: path.symlink_to("/dev/zero"), "a link"),
        (_socket, "a device or a socket"),
    ],
)
def test_what_is_no_file_of_jobs_is_one_sentence_before_anything_starts(
    make: Callable[[Path], None], kind: str, name: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(OutputError, match=f"'{name}' is {kind}.*--out"), open_store(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {name, "lock", "precious"}


def test_jobs_that_cannot_be_kept_end_the_program_with_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "jobs.sqlite")
    done = inside("serve", "--port", "0", "--out", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "'jobs.sqlite' is a pipe" in done.stderr

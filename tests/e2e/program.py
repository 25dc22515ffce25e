"""The program in this process, or in one that has imported it before, where a start is not tested.

Most of what a start of the installed program takes is the import of torch and diffusers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from select import select
from subprocess import PIPE, CompletedProcess
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from typer.testing import CliRunner

from npcorrect.cli import app

QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "COLUMNS": "200"}
READY = """
import gc, json, os, signal, sys
import npcorrect.cli, npcorrect.mini.embedded, npcorrect.mini.roles
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if not child:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    os._exit(0)
asked = json.loads(line)
os.environ.clear()
os.environ |= asked["environment"]
for number, name in enumerate((os.devnull, *asked["streams"])):
    os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
# Started in the background, Python ignores SIGINT, so the handler of a terminal is set.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["npc", *asked["arguments"]]
npcorrect.cli.main()
"""
"""Becomes the program, once for each line that it is given; tells its number and its exit code."""


def inside(*arguments: str) -> CompletedProcess[str]:
    """Run the command here; what a run of the installed program would have returned."""
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


class Started:
    """A run of the program in a process of its own, beside the test."""

    def __init__(
        self, ready: subprocess.Popen[bytes], arguments: tuple[str, ...], folder: Path
    ) -> None:
        self._arguments = arguments
        self._streams = [folder / "stdout", folder / "stderr"]
        self._code: int | None = None
        asked: dict[str, Any] = {"arguments": arguments, "environment": {**os.environ, **QUIET}}
        asked["streams"] = list(map(str, self._streams))
        assert ready.stdin
        assert ready.stdout
        ready.stdin.write(json.dumps(asked).encode() + b"\n")
        self._told = ready.stdout
        self._process = int(self._told.readline())

    def ended(self, seconds: float = 0) -> bool:
        """Whether it ends, or has ended, within so many seconds."""
        if self._code is None and select([self._told], [], [], seconds)[0]:
            self._code = int(self._told.readline())
        return self._code is not None

    def until(self, reached: Callable[[], object], seconds: float = 120) -> None:
        """Wait for a moment of the run, or for its end."""
        deadline = monotonic() + seconds
        while not reached() and not self.ended(0.02):
            assert monotonic() < deadline

    def send(self, number: signal.Signals) -> None:
        if not self.ended():
            os.kill(self._process, number)

    def done(self, seconds: float = 120) -> CompletedProcess[str]:
        """What it has left when it has ended, which it does within so many seconds."""
        assert self.ended(seconds)
        assert self._code is not None
        out, errors = (stream.read_text() for stream in self._streams)
        return CompletedProcess(self._arguments, self._code, out, errors)


Start = Callable[..., AbstractContextManager[Started]]
"""Starts the program with arguments; it does not outlive the block."""


@contextmanager
def ready() -> Iterator[Start]:
    """A process that has imported the program, and a function that starts it there."""
    environment, command = os.environ | QUIET, [sys.executable, "-c", READY]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, bufsize=0, env=environment) as process:
        yield partial(_started, process)


@contextmanager
def _started(process: subprocess.Popen[bytes], *arguments: str) -> Iterator[Started]:
    with TemporaryDirectory() as folder:
        run = Started(process, arguments, Path(folder))
        try:
            yield run
        finally:
            run.send(signal.SIGKILL)
            run.ended(60)

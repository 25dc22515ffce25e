"""Seconds from the start of a face to its first picture, of the embedded model, beside the others.

    python benchmarks/faces.py --rounds 3

Each face draws the same picture, without correcting it, in a process of its own: the command line,
Python, the server's jobs, OpenAI's endpoint of it, and the tools for assistants. Also how long
``npc --help`` takes and how soon the server answers. The processor's seconds, of the whole process,
are beside the clock's: on a busy machine they alone can be compared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import httpx2

NPC = (sys.executable, "-m", "npcorrect")
PROMPT, SEED = "three red apples and one blue cup", 7
REQUEST = {"prompt": PROMPT, "seed": SEED, "candidates": 0}
PYTHON = f"import npcorrect; npcorrect.correct_prompt({PROMPT!r}, seed={SEED}, candidates=0)"


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """The address of a server that has just begun to listen."""
    command = [*NPC, "serve", "--port", "0", "--out", str(folder / "jobs"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().split()[3].rstrip(";")
        finally:
            server.terminate()


def help_text(folder: Path) -> None:
    subprocess.run([*NPC, "--help"], check=True, stdout=subprocess.DEVNULL)


def answer(folder: Path) -> None:
    with serving(folder) as address:
        httpx2.get(address).raise_for_status()
        raise Done


def command_line(folder: Path) -> None:
    command = [*NPC, "correct", PROMPT, "--seed", str(SEED), "-k", "0", "--out", str(folder / "o")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr


def python(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", PYTHON], check=True)


def jobs(folder: Path) -> None:
    with serving(folder) as address, httpx2.Client(base_url=address, timeout=300) as client:
        job = client.post("/v1/jobs", json=REQUEST).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as events:
            for line in events.iter_lines():
                if line == "event: end":
                    break
        client.get(f"/v1/jobs/{job}/attempts/0.png").raise_for_status()
        raise Done


def openai(folder: Path) -> None:
    with serving(folder) as address:
        url = f"{address}/v1/images/generations"
        httpx2.post(url, json=REQUEST, timeout=300).raise_for_status()
        raise Done


def assistant(folder: Path) -> None:
    from mcp import Client, StdioServerParameters

    async def call() -> None:
        program = StdioServerParameters(command=NPC[0], args=[*NPC[1:], "mcp"], env={**os.environ})
        async with Client(program) as client:
            settings = {"seed": SEED, "candidates": 0}
            asked = {"prompt": PROMPT, "settings": settings}
            done = await client.call_tool("draw_and_correct", asked)
            assert not done.is_error, done.content

    asyncio.run(call())


FACES: dict[str, Callable[[Path], None]] = {
    "npc --help": help_text,
    "npc serve answers": answer,
    "first picture: npc correct": command_line,
    "first picture: Python": python,
    "first picture: npc serve, a job": jobs,
    "first picture: npc serve, as OpenAI's": openai,
    "first picture: npc mcp": assistant,
}


class Done(Exception):  # noqa: N818 (no error: ending the server is not to be timed)
    """What was waited for is there."""

    def __init__(self) -> None:
        self.at = perf_counter()


def seconds(face: Callable[[Path], None]) -> tuple[float, float]:
    """How long a face takes from the start of its process: by the clock, and by the processor."""
    with TemporaryDirectory() as folder:
        before, begin = _processor(), perf_counter()
        try:
            face(Path(folder))
            end = perf_counter()
        except Done as done:
            end = done.at
        return end - begin, _processor() - before


def _processor() -> float:
    """Seconds that processes begun here have had, of those that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in FACES}
    for _ in range(options.rounds):
        for name, face in FACES.items():
            taken[name].append(seconds(face))
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {options.rounds} rounds")
    for name, times in taken.items():
        clock, processor = ([*column] for column in zip(*times, strict=True))
        print(
            f"{name:40} {median(clock):6.2f} s (from {min(clock):.2f} to {max(clock):.2f}), "
            f"{median(processor):6.2f} s of a processor"
        )


if __name__ == "__main__":
    main()

"""Loads what a run works with, by the names in its settings."""

from __future__ import annotations

import re
from atexit import register
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from npcorrect import session
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge
from npcorrect.evaluation.benchmarks.geneval2 import GenEval2
from npcorrect.evaluation.benchmarks.geneval_pp import GenEvalPP
from npcorrect.evaluation.benchmarks.imagine_bench import ImagineBench
from npcorrect.evaluation.benchmarks.mini_bench import MiniBench
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.manifest import RunSettings, validate
from npcorrect.records import Request
from npcorrect.session import SessionSettings
from npcorrect.vlm import build
from npcorrect.vlm.settings import VLMTable

BENCHMARKS: dict[str, Callable[[Path | None], Benchmark]] = {
    "mini": lambda folder: MiniBench(),
    "mini-tuning": lambda folder: MiniBench(tuning=True),
    "geneval++": GenEvalPP,
    "imagine": ImagineBench,
    "geneval2": GenEval2,
}
"""The benchmarks by name, from a folder with their official files."""


def benchmark(name: str, folder: Path | None = None) -> Benchmark:
    """The benchmark with this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in BENCHMARKS:
        raise SettingsError(f"The benchmark {name!r} is unknown; use {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[name](folder)


def session_settings(settings: RunSettings, table: VLMTable) -> SessionSettings:
    """What the session of a run opens."""
    return SessionSettings(load=settings.load, roles=settings.roles, table=table)


def check(settings: RunSettings, source: Benchmark, table: VLMTable) -> None:
    """Refuse what could not work, before weights are loaded or anyone is asked.

    Raises:
        InputError: a setting cannot work, alone or with the others.
    """
    validate(settings)
    check_judge(settings, source)
    if "rewrite" in settings.methods and not settings.roles.vlm:
        raise SettingsError("The method 'rewrite' needs a language model; name one with --vlm.")
    prompt = source.samples()[0].prompt
    session.check(session_settings(settings, table), Request(prompt, **vars(settings.draw)))


def load(settings: RunSettings, folder: Path | None, table: VLMTable, threads: int) -> Tools:
    """The session, the judge and the writer of a run, on so many threads.

    Models that are asked stay open until the process ends.

    Raises:
        InputError: one of them is not to be had.
    """
    import torch

    torch.set_num_threads(threads)
    stack = ExitStack()
    register(stack.close)
    source = benchmark(settings.benchmark, folder)
    wanted = session_settings(settings, table)
    # What is asked comes first: what is missing there should not wait for large weights.
    judge = stack.enter_context(judging(settings, source, table))
    writer = None
    if settings.roles.vlm and "rewrite" in settings.methods:
        writer = stack.enter_context(build.model(settings.roles.vlm, wanted.vlm))
    opened = stack.enter_context(session.open_session(wanted))
    return Tools(opened, judge, source, writer, settings.draw)


def check_judge(settings: RunSettings, source: Benchmark) -> None:
    """Refuse a judge that is missing, or that has nothing to judge.

    Raises:
        SettingsError: it is one of these.
    """
    if source.upstream_judge and settings.judge is None:
        raise SettingsError(
            f"The benchmark {source.name!r} is judged by a model; name one with --judge. "
            f"Upstream's is {source.upstream_judge}."
        )
    if settings.judge and not source.upstream_judge:
        raise SettingsError(
            f"The benchmark {source.name!r} is judged without a model; leave --judge out."
        )


@contextmanager
def judging(settings: RunSettings, source: Benchmark, table: VLMTable) -> Generator[Judge]:
    """The judge of a run.

    Raises:
        InputError: the judge is missing, or is not to be had.
    """
    if settings.judge is None:
        yield source.judge(None)
        return
    with build.model(settings.judge, session_settings(settings, table).vlm) as vlm:
        yield source.judge(vlm)


def same_model(first: str | None, second: str | None) -> bool:
    """Whether two names are of one model; a dated release is the model that it is a release of."""
    if first is None or second is None:
        return False
    return _undated(first) == _undated(second)


def _undated(name: str) -> str:
    return re.sub(r"-\d{4}-?\d{2}-?\d{2}$", "", name)

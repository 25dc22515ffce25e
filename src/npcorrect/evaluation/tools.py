"""Loads what a run works with, by the names in its settings."""

from __future__ import annotations

import re

from npcorrect.errors import ModelError, SettingsError
from npcorrect.evaluation.benchmark import Benchmark, Judge
from npcorrect.evaluation.manifest import Settings
from npcorrect.evaluation.method import Tools
from npcorrect.evaluation.mini_bench import ClassicalJudge, MiniBench

BENCHMARKS = ("mini", "mini-tuning")


def benchmark(name: str) -> Benchmark:
    """The benchmark with this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in BENCHMARKS:
        raise SettingsError(f"The benchmark {name!r} is unknown; use {', '.join(BENCHMARKS)}.")
    return MiniBench(tuning=name == "mini-tuning")


def load(settings: Settings, threads: int) -> Tools:
    """The model, the roles and the judge of a run, on so many threads.

    Raises:
        InputError: one of them is not to be had.
    """
    import torch

    from npcorrect.mini.embedded import embedded
    from npcorrect.mini.vlm import embedded_roles
    from npcorrect.ranking import PaperRanker, RequirementRanker

    torch.set_num_threads(threads)
    if settings.model != "mini":
        raise ModelError(f"The model {settings.model!r} is unknown; the embedded one is 'mini'.")
    model = embedded(settings.device, settings.dtype)
    rankers = {"requirements": RequirementRanker(model), "paper": PaperRanker(model)}
    return Tools(model, embedded_roles(), rankers, judge(settings), benchmark(settings.benchmark))


def judge(settings: Settings) -> Judge:
    """The judge of a run."""
    return ClassicalJudge()


def same_model(first: str | None, second: str | None) -> bool:
    """Whether two names are of one model; a dated release is the model that it is a release of."""
    if first is None or second is None:
        return False
    return _undated(first) == _undated(second)


def _undated(name: str) -> str:
    return re.sub(r"-\d{4}-?\d{2}-?\d{2}$", "", name)

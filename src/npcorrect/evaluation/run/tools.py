"""Loads what a run works with, by the names in its settings."""

from __future__ import annotations

from atexit import register
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import find
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.manifest import Settings
from npcorrect.evaluation.run.spent import ending
from npcorrect.records import Request
from npcorrect.vlm import build
from npcorrect.vlm.settings import VLMSettings, VLMTable


def load(settings: Settings, folder: Path | None, table: VLMTable, threads: int) -> Tools:
    """The model, the roles and the judge of a run, on so many threads.

    Models that are asked stay open until the process ends.

    Raises:
        InputError: one of them is not to be had.
    """
    import torch

    from npcorrect.diffusion.loading import LoadOptions
    from npcorrect.diffusion.loading import load as load_model
    from npcorrect.mini.vlm import embedded_roles
    from npcorrect.ranking import RANKERS

    torch.set_num_threads(threads)
    stack = ExitStack()
    register(stack.close)
    asked = vlm_settings(settings, table)
    source = find(settings.benchmark, folder)
    # What is asked comes first: what is missing there should not wait for large weights.
    own_roles = embedded_roles() if settings.model == "mini" else None
    roles = ending(stack.enter_context(build.roles(asked, own_roles)))
    judge = stack.enter_context(judging(settings, source, table))
    writer = None
    if settings.vlm and "rewrite" in settings.methods:
        writer = stack.enter_context(build.model(settings.vlm, asked))
    loading = {**settings.loading, "loras": tuple(settings.loading.get("loras", ()))}
    model = load_model(settings.model, LoadOptions(**loading))
    request = Request(
        "",
        num_inference_steps=settings.steps,
        height=settings.size,
        width=settings.size,
        looks=0 if settings.verifier else None,
    )
    rankers = {name: make(model) for name, make in RANKERS.items()}
    return Tools(model, roles, rankers, judge, source, writer, request)


def check_judge(settings: Settings, source: Benchmark) -> None:
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
def judging(settings: Settings, source: Benchmark, table: VLMTable) -> Generator[Judge]:
    """The judge of a run.

    Raises:
        InputError: the judge is missing, or is not to be had.
    """
    if settings.judge is None:
        yield source.judge(None)
        return
    with build.model(settings.judge, vlm_settings(settings, table)) as vlm:
        yield source.judge(vlm)


def vlm_settings(settings: Settings, table: VLMTable) -> VLMSettings:
    """How the models of a run are asked."""
    return VLMSettings(
        settings.vlm,
        settings.roles,
        settings.votes,
        budget=settings.budget,
        cache=settings.cache,
        device=settings.device or "cpu",
        dtype=settings.loading.get("dtype") or "float32",
        table=table,
    )

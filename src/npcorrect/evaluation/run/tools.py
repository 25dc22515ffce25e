"""Loads what a run works with, by the names in its settings."""

from __future__ import annotations

from atexit import register
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from npcorrect import session
from npcorrect.errors import SettingsError
from npcorrect.evaluation import plugins
from npcorrect.evaluation.benchmarks import find
from npcorrect.evaluation.benchmarks.base import Benchmark, Judge
from npcorrect.evaluation.benchmarks.judge import repeated
from npcorrect.evaluation.methods import METHODS
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.manifest import RunSettings, validate
from npcorrect.records import Request
from npcorrect.session import SessionSettings
from npcorrect.vlm import build
from npcorrect.vlm.addresses import is_server
from npcorrect.vlm.settings import VLMTable

JUDGES = "npcorrect.judges"
"""The entry points of judges."""
IN_PROCESS = ("npc-no-negatives", "npc-oracle", "npc-paper", "static")
"""The methods that need a model in this process."""
NO_JUDGE = "none"
"""Leaves all pictures to upstream's own evaluator."""
EMBEDDED_JUDGE = "template matching of the embedded world (not GPT-4.1)"
"""Judges an official benchmark's prompts as the embedded model drew them; no figure of its own."""


def session_settings(settings: RunSettings, table: VLMTable) -> SessionSettings:
    """What the session of a run opens."""
    return SessionSettings(load=settings.load, roles=settings.roles, table=table)


def with_embedded_judge(settings: RunSettings, source: Benchmark) -> RunSettings:
    """The settings with the embedded judge, where no other is named and it can read the pictures.

    These are the embedded model's, of prompts of its world.
    """
    unnamed = settings.judge is None and settings.wording == "default"
    if unnamed and _reads(settings, source):
        return replace(settings, judge=EMBEDDED_JUDGE)
    return settings


def _reads(settings: RunSettings, source: Benchmark) -> bool:
    """Whether the embedded judge can read the pictures of a run."""
    known = getattr(source, "in_embedded_world", False)
    return known and settings.images > 0 and settings.load.model == session.EMBEDDED


def check(settings: RunSettings, source: Benchmark, table: VLMTable) -> None:
    """Refuse what could not work, before weights are loaded or anyone is asked.

    Raises:
        InputError: a setting cannot work, alone or with the others.
    """
    validate(settings)
    check_judge(settings, source)
    inside = [name for name in settings.methods if name in IN_PROCESS]
    if inside and is_server(settings.load.model):
        raise SettingsError(
            f"The method {inside[0]!r} chooses the steps in which a negative acts, or a score of "
            "its own, which a server that draws does not let it; leave it out, or name a model "
            "that runs here."
        )
    if "rewrite" in settings.methods and not settings.roles.vlm:
        raise SettingsError("The method 'rewrite' needs a language model; name one with --vlm.")
    prompt = source.samples()[0].prompt
    wanted = session_settings(settings, table)
    if settings.judge not in (None, EMBEDDED_JUDGE):  # a judge is asked, where no role may be
        wanted = replace(wanted, roles=replace(wanted.roles, budget=None))
    request = Request(prompt, **vars(settings.draw))
    session.check(wanted, request)
    for name in settings.methods:
        _check_method(name, wanted, request)


def _check_method(name: str, settings: SessionSettings, request: Request) -> None:
    """Refuse a method of this program that asks for what the model cannot do."""
    if name not in METHODS:
        return
    try:
        session.check(settings, METHODS[name].asks(request))
    except SettingsError as error:
        raise SettingsError(
            f"The method {name!r} cannot work here; leave it out. {error}"
        ) from None


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
    source = find(settings.benchmark, folder, settings.wording)
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
        SettingsError: it is one of these, or code of the user's own that cannot be loaded.
    """
    if settings.judge == EMBEDDED_JUDGE:
        if not _reads(settings, source):
            raise SettingsError(
                "The embedded judge reads the embedded model's pictures of geneval++ alone; name "
                "a model with --judge."
            )
        return
    if source.upstream_judge and settings.judge is None:
        raise SettingsError(
            f"The benchmark {source.name!r} is judged by a model; name one with --judge. "
            f"Upstream's is {source.upstream_judge}."
        )
    if settings.judge == NO_JUDGE and not getattr(source, "may_be_unjudged", False):
        raise SettingsError(
            f"The pictures of {source.name!r} need a judge; 'none' is for geneval, whose pictures "
            "upstream's own evaluator judges."
        )
    custom = settings.judge is not None and plugins.load(settings.judge, JUDGES) is not None
    if settings.judge and not source.upstream_judge and not custom:
        raise SettingsError(
            f"The benchmark {source.name!r} is judged without a model; leave --judge out."
        )


@contextmanager
def judging(settings: RunSettings, source: Benchmark, table: VLMTable) -> Generator[Judge]:
    """The judge of a run, which scores each picture as often as the settings say.

    One of the user's own is made by a function of the benchmark.

    Raises:
        InputError: the judge is missing, or is not to be had.
    """
    times, name = settings.repeat_judge, settings.judge
    if name is None or name == NO_JUDGE:
        yield repeated(source.judge(None), times)
    elif name == EMBEDDED_JUDGE:
        from npcorrect.evaluation.benchmarks.mini_bench import TemplateJudge

        yield repeated(TemplateJudge(EMBEDDED_JUDGE), times)
    elif (made := plugins.load(name, JUDGES)) is not None:
        yield repeated(plugins.called(name, made, source), times)
    else:
        with build.model(name, session_settings(settings, table).vlm) as vlm:
            yield repeated(source.judge(vlm), times)


def weights(settings: RunSettings, table: VLMTable) -> str:
    """The hash or the commit of the image model's weights and of its LoRAs.

    Empty as far as it is not known before they are loaded.
    """
    made = session.made_with(None, session_settings(settings, table))
    return " ".join(filter(None, (made.weights or made.revision, *made.loras)))

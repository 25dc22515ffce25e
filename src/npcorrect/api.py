"""For Python: models loaded by name or around a pipeline, roles, and a correction in one call."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from PIL.Image import Image

from npcorrect import settings as declared
from npcorrect.diffusion.base import ImageModel
from npcorrect.errors import SettingsError
from npcorrect.extras import requiring
from npcorrect.loop import Correction, OnEvent, sized
from npcorrect.ranking import DEFAULT_RANKER
from npcorrect.records import Request
from npcorrect.result import Result
from npcorrect.session import (
    EMBEDDED,
    Session,
    SessionSettings,
    check,
    check_original,
    check_ranker,
    check_request,
    embedded_roles,
    family_of,
    load_model,
    open_model,
    open_session,
)
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.text import shown
from npcorrect.vlm import build
from npcorrect.vlm.base import VLM
from npcorrect.vlm.roles import Roles

if TYPE_CHECKING:
    from npcorrect.diffusion.pipeline import PipelineModel

S = TypeVar("S", bound=declared.Settings)
_MODEL = ("name", "plan", "check_text", "draw", "origin")
_VLM = ("name", "remote", "together", "ask")
"""What an object has that is to be a model or a VLM; their protocols say more."""


def load(model: str = EMBEDDED, **options: Any) -> PipelineModel:
    """Load an image model by name, with the options of :class:`~npcorrect.settings.LoadSettings`.

    Raises:
        InputError: see :func:`load_model`.
    """
    return load_model(_settings(LoadSettings, {"model": model, **options}))


def from_pipeline(
    pipeline: Any, *, name: str | None = None, family: str | None = None
) -> PipelineModel:
    """An image model around a diffusers pipeline that is loaded already.

    The family is found by the pipeline's class and configuration, unless ``family`` names it.

    Raises:
        ModelError: no family is of this class, there is none of this name, the pipeline is of
            another one, a part of it is missing, or diffusers cannot draw with the model.
        SettingsError: what draws is not installed, or a name is no text.
    """
    declared.check_kind(name, str | None, "name", "a text")
    declared.check_kind(family, str | None, "family", "its name; see 'npc models'")
    from npcorrect.diffusion.identify import (
        family_named,
        family_of_pipeline,
        refuse_embedded_guidance,
        refuse_missing_parts,
    )

    with requiring("Drawing"):
        from npcorrect.diffusion.pipeline import PipelineModel

    refuse_missing_parts(pipeline)
    row = family_of_pipeline(pipeline) if family is None else family_named(pipeline, family)
    known = name or str(pipeline.config.get("_name_or_path") or "") or type(pipeline).__name__
    refuse_embedded_guidance(known, row, lambda part: getattr(pipeline, part).config)
    return PipelineModel(known, pipeline, row)


@contextmanager
def roles(
    vlm: str | VLM | None = None, *, model: str = EMBEDDED, **options: Any
) -> Generator[Roles]:
    """The roles that a vision-language model plays, let go of at the end.

    ``vlm`` is a name as ``--vlm`` takes it, or an object that answers questions; without one, the
    embedded model's own roles. The options are those of :class:`~npcorrect.settings.RoleSettings`;
    an object takes ``votes`` and ``questions``.

    Raises:
        InputError: a name or an option cannot work, or the model is not to be had.
    """
    _check_vlm(vlm)
    if vlm is not None and not isinstance(vlm, str):
        asked = _settings(RoleSettings, options)
        _refuse_idle(asked)
        yield build.played_by(vlm, asked)
        return
    wanted = SessionSettings(
        load=LoadSettings(model=model), roles=_settings(RoleSettings, {"vlm": vlm, **options})
    )
    build.check_roles(wanted.vlm, wanted.embedded)
    embedded = None
    if wanted.embedded:
        embedded = embedded_roles()
    with build.roles(wanted.vlm, embedded) as opened:
        yield opened


def correct_prompt(
    prompt: str,
    *,
    model: str | ImageModel = EMBEDDED,
    vlm: str | VLM | None = None,
    original: Image | None = None,
    on_event: OnEvent | None = None,
    **options: Any,
) -> Result:
    """Draw a prompt, correct it, and return the result.

    ``model`` is a name or a model of :func:`load` or :func:`from_pipeline`, ``vlm`` a name or an
    object that answers questions. ``original`` is a picture to correct in place of a first drawing.
    The options are those of :class:`~npcorrect.settings.DrawSettings`.

    Raises:
        InputError: the prompt, a model or an option cannot work.
    """
    _check_able(model, _MODEL, "model", "a name, or what load() or from_pipeline() returns")
    _check_vlm(vlm)
    declared.check_kind(on_event, Callable | None, "listener", "a function that takes events")
    request = Request(prompt, **_known(declared.DrawSettings, options))
    name = model if isinstance(model, str) else model.name
    opened = LoadSettings(model=name)
    if isinstance(model, str) and (vlm is None or isinstance(vlm, str)):
        settings = SessionSettings(load=opened, roles=RoleSettings(vlm=vlm))
        check(settings, request, original)
        with open_session(settings) as session:
            return _finished(session.correct(request, on_event, original=original))
    named = RoleSettings(vlm=vlm if isinstance(vlm, str) else "object" if vlm else None)
    settings = SessionSettings(load=opened, roles=named)
    asked = settings.policy(request)
    if isinstance(model, str):
        check_request(settings, asked, family_of(opened), original)
    else:
        if original is not None:
            asked = sized(asked, original)
            check_original(settings, original)
        model.plan(asked)
        check_ranker(asked.ranker or DEFAULT_RANKER, model)
    with roles(vlm, model=name) as played:
        opening = open_model(settings) if isinstance(model, str) else nullcontext(model)
        with opening as drawer:
            session = Session(drawer, played, settings)
            return _finished(session.correct(request, on_event, original=original))


def _check_vlm(vlm: object) -> None:
    if vlm is not None:
        _check_able(vlm, _VLM, "VLM", "a name, or an object that answers questions")


def _check_able(value: object, names: Sequence[str], what: str, remedy: str) -> None:
    """Refuse what is neither a name nor an object with all that its kind has."""
    missing = [name for name in names if isinstance(value, type) or not hasattr(value, name)]
    if len(missing) == len(names):
        declared.check_kind(value, str, what, remedy)
    elif missing:
        raise SettingsError(
            f"The {what} is of type {type(value).__name__!r}, which has no {missing[0]!r}; an "
            f"object needs {', '.join(names)}."
        )


def _refuse_idle(given: RoleSettings) -> None:
    """Refuse what says how a model of a name is asked, where an object answers.

    Raises:
        SettingsError: a setting would have no effect.
    """
    for one in declared.options(RoleSettings):
        value = getattr(given, one.field)
        if one.field not in ("votes", "questions") and value != one.default:
            raise SettingsError(
                f"The setting {one.name!r} is {shown(value)}, which has no effect on a VLM that "
                "is an object; leave it out."
            )


def _finished(correction: Correction) -> Result:
    for _ in correction:
        pass
    return correction.result


def _known(record: type[declared.Settings], options: dict[str, Any]) -> dict[str, Any]:
    """The options, if a settings record has them all."""
    names = [f.name for f in fields(record)]
    for option in options:
        if option not in names:
            raise SettingsError(declared.unknown_name(option, names, record.__name__))
    return options


def _settings(record: type[S], options: dict[str, Any]) -> S:
    made = record(**_known(record, options))
    declared.check(made)
    return made

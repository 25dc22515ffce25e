"""From a request to a plan: everything that can be refused is refused here. Imports no torch.

A plan is made once for a correction, before weights are loaded or anyone is asked, from what is
known of a model's family alone. Settings are requested; a :class:`~npcorrect.records.Drawing` is
resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from math import ceil
from typing import Protocol, TypeVar

from npcorrect.errors import PromptError, SettingsError
from npcorrect.interval import Interval
from npcorrect.prompt_marks import without_marks
from npcorrect.records import Drawing, Origin, Request
from npcorrect.settings import WITHIN_ATTENTION, DrawSettings, check, check_kind

T = TypeVar("T")
PAPER_WINDOW = 3 / 50
"""The released schedule: the negative acts in the first 3 of 50 steps."""
LAST_LOOK = 2 / 3
"""Share of the steps before the last look, for every family. It was measured on the embedded model
alone, whose pictures hardly change after it; on no other family has anybody tried."""
Sigmas = Callable[[Drawing], Sequence[float]]
"""The noise levels with which the steps of a drawing begin, by the model's own scheduler."""
MAX_PROMPT = 10_000
"""Characters of a prompt; no model reads as many."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model does where the request is silent. ``sizes`` are the sides that it can draw.

    Where ``multiple`` is given, every multiple of it can be drawn, and the first size is only the
    default. ``window``, a share of the steps, ``looks``, ``strength``, ``rewinds`` and
    ``fresh_from`` are those of the model's own rule and of rules by which looks can renew the
    negative; other rules look at finished pictures only, begin with noise and keep the seed.
    ``fresh_from`` is the first redrawing that has a seed of its own, 0 where all keep the seed;
    where only claims of the kinds in ``seeds_suffice`` failed, such redrawings have no negative
    once one was tried. ``paper_window`` is the window of rule ``paper``, ``paper_scale`` the scale
    that was measured within it where that is not ``true_cfg_scale``, which holds where a negative
    acts in other steps too. ``negative_scale`` is mu of rule ``extra``, ``nag_scale`` phi of rule
    ``nag``, ``vsf_scale`` alpha of rule ``vsf``. ``max_sequence_length`` counts tokens.
    """

    num_inference_steps: int
    true_cfg_scale: float
    negative_scale: float
    rule: str
    window: float
    looks: int
    fresh_from: int
    sizes: tuple[int, ...]
    max_sequence_length: int
    multiple: int = 0
    nag_scale: float = 4.0
    vsf_scale: float = 3.5
    strength: float = 1.0
    rewinds: int = 0
    paper_window: float = PAPER_WINDOW
    paper_scale: float | None = None
    seeds_suffice: frozenset[str] = frozenset()


class RuleTraits(Protocol):
    """What a plan needs to know of a guidance rule."""

    @property
    def renewable(self) -> bool:
        """Whether looks can renew the negative: it acts beside the unconditional branch."""
        ...

    @property
    def guided(self) -> bool:
        """Whether the rule acts through classifier-free guidance; distilled families have none."""
        ...

    @property
    def replaces(self) -> bool:
        """Whether the negative takes the unconditional branch's place."""
        ...

    @property
    def attends(self) -> bool:
        """Whether the negative acts within attention, and so without a branch of its own."""
        ...

    @property
    def delay(self) -> int:
        """The steps with which a drawing begins and in which the negative cannot act yet."""
        ...

    @property
    def weighs(self) -> bool:
        """Whether the negative has a weight of its own."""
        ...

    def default_window(self, defaults: Defaults) -> float:
        """The share of the steps in which the negative acts where the request is silent."""
        ...

    def default_guidance(self, defaults: Defaults) -> float:
        """The true classifier-free guidance scale within the rule's own window."""
        ...

    def default_scale(self, defaults: Defaults) -> float:
        """The weight of the negative where the request is silent."""
        ...


class FamilyTraits(Protocol):
    """What a plan needs to know of a family of models."""

    @property
    def title(self) -> str:
        """The family's name as people write it, for sentences to the user."""
        ...

    @property
    def rules(self) -> Mapping[str, RuleTraits]:
        """The rules by which a negative can act, by name."""
        ...

    @property
    def distilled(self) -> str:
        """A clause that says why guidance cannot act; empty where it can."""
        ...

    @property
    def restarts(self) -> bool:
        """Whether a picture can begin in the middle of the schedule."""
        ...

    @property
    def windows(self) -> bool:
        """Whether a negative can act in a part of the steps."""
        ...

    @property
    def least_scale(self) -> float:
        """The guidance scale above which the pipeline makes a second branch."""
        ...

    @property
    def guides_always(self) -> bool:
        """Whether plain pictures are drawn under guidance too."""
        ...

    def check_prompt(self, prompt: str) -> None:
        """Raises PromptError where the model cannot draw the prompt."""
        ...

    def check_negative(self, negative: str) -> None:
        """Raises PromptError where the model cannot be guided away from what a text names."""
        ...


@dataclass(frozen=True)
class Plan:
    """A request with every choice made.

    ``template`` is the drawing of the original; every other one differs in its seed, its negative
    and its origin alone. From redrawing ``fresh_from`` on, where it is not 0, redrawing k has the
    seed ``seed + k``; ``seeds_suffice`` is as in :class:`Defaults`. ``denies`` says whether what
    the prompt denies is a negative of every picture, the original too.
    """

    request: Request
    template: Drawing
    fresh_from: int
    denies: bool = True
    seeds_suffice: frozenset[str] = frozenset()

    @property
    def looks(self) -> bool:
        """Whether redrawings are looked at while they emerge."""
        return bool(self.template.look_steps)

    def drawing(self, attempt: int, negative: str | None, origin: Origin | None = None) -> Drawing:
        """The drawing of an attempt, 0 for the original."""
        fresh = 0 < self.fresh_from <= attempt
        seed = self.template.seed + (attempt if fresh else 0)
        begin = origin if self.template.restart_step else None
        return replace(self.template, seed=seed, negative_prompt=negative, origin=begin)


def plan(
    request: Request, family: FamilyTraits, defaults: Defaults, sigmas: Sigmas | None = None
) -> Plan:
    """Make every choice of a request, and refuse what could not work or would have no effect.

    Only a loaded model knows its noise levels. Without ``sigmas`` an interval of noise levels is
    planned as all steps, and one that has no step is not refused yet.

    Raises:
        PromptError: the prompt is empty, too long, or beyond the family.
        SettingsError: a setting is of the wrong type, out of range, unknown to the family, or would
            leave the negative without effect.
    """
    check_request(request)
    _refuse_idle_size(request)
    prompt, standing = _texts(request, family)
    name = request.rule or defaults.rule
    rule = _rule(name, family)
    _check_interval(request, family)
    template = replace(_resolved(request, family, defaults, prompt), standing_negative=standing)
    _check_sides(template, family, defaults)
    levels = sigmas and partial(sigmas, template)
    share = rule.default_window(defaults)
    window = window_steps(request.negative, template.num_inference_steps, share, levels)
    template = _timed(replace(template, window=window), request, family, defaults)
    _check_looks(template, family, rule)
    if request.candidates:
        _refuse_without_effect(template, family, rule)
    if standing is not None:
        template = replace(template, share_branch=_shares_branch(template, family, rule))
    if request.rule is not None:
        refuse_idle_weight(request, name, family)
    measured = _as_measured(name, rule, defaults)
    default = defaults.fresh_from if measured else 0
    fresh_from = default if request.fresh is None else int(request.fresh)
    _check_seeds(request, fresh_from)
    suffice = defaults.seeds_suffice if measured else frozenset[str]()
    return Plan(request, template, fresh_from, request.candidates > 0, suffice)


def _texts(request: Request, family: FamilyTraits) -> tuple[str, str | None]:
    """The prompt and the standing negative as they are drawn."""
    prompt = without_marks(request.prompt, family.title)
    family.check_prompt(prompt)
    if request.negative_prompt is None:
        return prompt, None
    standing = without_marks(request.negative_prompt, family.title, "negative prompt")
    family.check_negative(standing)
    return prompt, standing


def _resolved(request: Request, family: FamilyTraits, defaults: Defaults, prompt: str) -> Drawing:
    """The original's drawing, by defaults where the request is silent, but for its times."""
    name = request.rule or defaults.rule
    rule = _rule(name, family)
    steps = _or(request.steps, defaults.num_inference_steps)
    elsewhere = request.negative is not None or request.negative_prompt is not None
    scale = defaults.true_cfg_scale if elsewhere else rule.default_guidance(defaults)
    return Drawing(
        prompt=prompt,
        seed=request.seed,
        num_inference_steps=steps,
        true_cfg_scale=_or(request.scale, scale),
        negative_scale=_or(request.negative_scale, rule.default_scale(defaults)),
        rule=name,
        window=(0, steps),
        height=_or(request.height, _or(request.size, defaults.sizes[0])),
        width=_or(request.width, _or(request.size, defaults.sizes[0])),
    )


def _timed(drawing: Drawing, request: Request, family: FamilyTraits, defaults: Defaults) -> Drawing:
    """A drawing with its window, and with when redrawings begin, are looked at and go back."""
    rule, steps = _rule(drawing.rule, family), drawing.num_inference_steps
    restarts = _as_measured(drawing.rule, rule, defaults) and family.restarts
    start = start_step(_or(request.strength, defaults.strength if restarts else 1.0), steps)
    if request.strength is None:  # The default leaves a step in which the negative can act.
        stop = drawing.window[1] if request.negative is None else steps
        start = max(min(start, stop - 1 - rule.delay), 0)
    room = max(round(LAST_LOOK * steps) - start, 0)
    looks = _or(request.looks, min(defaults.looks, room) if rule.renewable else 0)
    return replace(
        drawing,
        restart_step=start,
        look_steps=look_steps(looks, steps, start),
        max_rewinds=_or(request.rewinds, defaults.rewinds if restarts and looks else 0),
    )


def _as_measured(name: str, rule: RuleTraits, defaults: Defaults) -> bool:
    """Whether the model's defaults of seeds and strength are meant for a rule."""
    return rule.renewable or name == defaults.rule


def _check_seeds(request: Request, fresh_from: int) -> None:
    if fresh_from and request.seed + request.candidates >= 2**63:
        raise SettingsError(
            f"The seed {request.seed} leaves no seeds for {request.candidates} redrawings; give a "
            "smaller one, or the same seed to all ('keep')."
        )


def check_request(request: Request) -> None:
    """Refuse what no model could correct.

    Raises:
        PromptError: the prompt is no text, empty, or longer than :data:`MAX_PROMPT` characters.
        SettingsError: it is no ``Request``, or see :func:`npcorrect.settings.check`.
    """
    check_kind(request, Request, "request", "a Request")
    if not isinstance(request.prompt, str) or not request.prompt.strip():
        raise PromptError("The prompt is empty; say what to draw, for example 'two red apples'.")
    if len(request.prompt) > MAX_PROMPT:
        raise PromptError(
            f"The prompt has {len(request.prompt)} characters; give at most {MAX_PROMPT}."
        )
    if not request.prompt.isprintable() and any("\ud800" <= c <= "\udfff" for c in request.prompt):
        raise PromptError("The prompt has characters that are no text (lone surrogates).")
    # Options of the record itself; a subclass's prompt is no option.
    check(DrawSettings(**{name: getattr(request, name) for name in _DRAW_FIELDS}))


_DRAW_FIELDS = tuple(DrawSettings.__dataclass_fields__)


def start_step(strength: float, steps: int) -> int:
    """The step, from 0, with which a redrawing of this strength begins, as diffusers counts it."""
    return steps - max(round(steps * strength), 1)


def look_steps(looks: int, steps: int, start: int = 0) -> tuple[int, ...]:
    """The steps, from 0, before which to look: evenly after ``start``, up to :data:`LAST_LOOK`.

    That share was measured on the embedded model alone.

    Raises:
        SettingsError: there are fewer steps to look between, or ``looks`` is negative.
    """
    room = max(round(LAST_LOOK * steps) - start, 0)
    if not 0 <= looks <= room:
        raise SettingsError(f"The number of looks is {looks}; give 0 to {room}.")
    return tuple(start + ceil(room * (look + 1) / looks) for look in range(looks))


def window_steps(
    value: int | float | str | None,
    steps: int,
    default: float = 1.0,
    sigmas: Callable[[], Sequence[float]] | None = None,
) -> tuple[int, int]:
    """The first step, from 0, in which the negative acts, and the first in which it does not.

    ``value`` is the setting ``negative``, see :meth:`npcorrect.interval.Interval.read`; ``default``
    is a share, of which at least one step remains. ``sigmas`` is asked where the value needs it.

    Raises:
        SettingsError: it is no interval, is not within the schedule, or has no step.
    """
    if value is None:
        return 0, max(round(default * steps), 1)
    interval = Interval.read(value)
    levels = sigmas() if sigmas and interval.unit == "sigmas" else None
    return interval.steps(steps, levels)


def batches(negatives: Sequence[str | None], size: int) -> list[range]:
    """The places of redrawings that are drawn together, at most ``size`` of them.

    ``negatives`` act on the redrawings: in a batch there is one on each picture or on none.
    """
    runs = [[*run] for _, run in groupby(range(len(negatives)), lambda i: negatives[i] is None)]
    return [range(first, min(first + size, run[-1] + 1)) for run in runs for first in run[::size]]


def _rule(name: str, family: FamilyTraits) -> RuleTraits:
    if name in family.rules:
        return family.rules[name]
    unguided = family.distilled if name not in WITHIN_ATTENTION else ""
    reason = unguided or f"rule {name!r} is not written for {family.title}"
    reason = reason[0].upper() + reason[1:]
    raise SettingsError(
        f"{reason}, so by rule {name!r} a negative prompt has no effect; "
        f"use rule {' or '.join(map(repr, family.rules))}."
    )


def _check_interval(request: Request, family: FamilyTraits) -> None:
    if request.negative is not None and not family.windows:
        raise SettingsError(
            f"The interval is {request.negative!r}, but on {family.title} a negative acts in all "
            "steps or in none; leave the interval out."
        )


def _refuse_idle_size(request: Request) -> None:
    if None not in (request.size, request.height, request.width):
        raise SettingsError(
            f"The size {request.size} has no effect beside a height of {request.height} and a "
            f"width of {request.width}; leave it out."
        )


def _check_sides(drawing: Drawing, family: FamilyTraits, defaults: Defaults) -> None:
    for side in (drawing.height, drawing.width):
        if side in defaults.sizes or (defaults.multiple and side % defaults.multiple == 0):
            continue
        sizes = ", ".join(map(str, defaults.sizes))
        known = f"multiples of {defaults.multiple}" if defaults.multiple else sizes
        raise SettingsError(
            f"The size {side} cannot be drawn by {family.title}; its sides are {known}."
        )


def _check_looks(drawing: Drawing, family: FamilyTraits, rule: RuleTraits) -> None:
    looks, rewinds = len(drawing.look_steps), drawing.max_rewinds
    if looks and not rule.renewable:
        renewable = [name for name, other in family.rules.items() if other.renewable]
        remedy = f", or rule {' or '.join(map(repr, renewable))}" if renewable else ""
        raise SettingsError(
            f"Rule {drawing.rule!r} keeps one negative and {looks} looks would renew it; "
            f"give 0 looks{remedy}."
        )
    if rewinds and not looks:
        raise SettingsError(
            f"The number of rewinds is {rewinds} with {looks} looks; give 0, or more of both: "
            "only a look can send a picture back."
        )
    if (drawing.restart_step or rewinds) and not family.restarts:
        raise SettingsError(
            f"{family.title} cannot begin with a noised picture here; give a strength of 1 and "
            "0 rewinds."
        )


def _refuse_without_effect(drawing: Drawing, family: FamilyTraits, rule: RuleTraits) -> None:
    start, stop = drawing.window
    if max(start, drawing.restart_step + rule.delay) >= stop:
        later = f", and by rule {drawing.rule!r} acts from its next step on" if rule.delay else ""
        sooner = ", or give a strength of 1" if drawing.restart_step else ""
        raise SettingsError(
            f"A negative that acts before step {stop + 1} has no effect on a redrawing that "
            f"begins at step {drawing.restart_step + 1}{later}; let it act longer ('negative')"
            f"{sooner}."
        )
    if rule.guided and not drawing.true_cfg_scale > family.least_scale:
        raise _without_guidance(drawing, family)


def _shares_branch(drawing: Drawing, family: FamilyTraits, rule: RuleTraits) -> bool:
    """Whether the user's negative has no branch of its own: the rule's negative takes it.

    Raises:
        SettingsError: there is no branch at all, so that it would have no effect.
    """
    branch = rule.guided or family.guides_always
    if branch and drawing.true_cfg_scale > family.least_scale:
        return rule.replaces
    if not rule.attends:
        raise _without_guidance(drawing, family)
    return True


def _without_guidance(drawing: Drawing, family: FamilyTraits) -> SettingsError:
    return SettingsError(
        f"At a true CFG scale of {drawing.true_cfg_scale:g} a negative prompt has no effect on "
        f"{family.title}; give a scale above {family.least_scale:g}."
    )


def refuse_idle_weight(request: Request, rule: str, family: FamilyTraits) -> None:
    """Refuse a weight of the negative where the rule gives it none.

    Raises:
        SettingsError: it would have no effect.
    """
    if request.negative_scale is None or _rule(rule, family).weighs:
        return
    others = [repr(name) for name, traits in family.rules.items() if traits.weighs]
    remedy = f", or use rule {' or '.join(others)}." if others else "."
    raise SettingsError(
        f"By rule {rule!r} the negative has no weight, so the negative scale "
        f"{request.negative_scale:g} has no effect; leave it out{remedy}"
    )


def _or(value: T | None, default: T) -> T:
    return default if value is None else value

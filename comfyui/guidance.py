"""What a negative does in the steps of a sampler: pure functions and one small state, torch alone.

ComfyUI's samplers work with denoised predictions, ``x0 = x - sigma v``, where ``v`` is the velocity
of flow matching or the noise of diffusion. The rules of :mod:`npcorrect.diffusion.rules` combine
predictions with weights that add up to 1, and may keep differences from step to step; such
differences mean the same at every noise level only between the ``v``, so the rules are given those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.guidance import moved, paper_rule
from npcorrect.diffusion.receipt import Tally
from npcorrect.diffusion.rules import Rule
from npcorrect.errors import SettingsError
from npcorrect.interval import Interval

from .family import Afterwards

_SAME = 1e-5
"""Relative difference up to which two noise levels are the same."""


def step_of(sigmas: Tensor, sigma: float) -> int:
    """The step, from 0, to which an evaluation at a noise level belongs.

    ``sigmas`` are the levels of the schedule, one more than steps, falling. A sampler's evaluation
    between two of them belongs to the step that begins with the higher.
    """
    begun = int((sigmas[:-1] >= sigma * (1 - _SAME)).sum())
    return max(begun - 1, 0)


def shares(start: float, stop: float, steps: int, delay: int = 0) -> tuple[int, int]:
    """The steps, from 0, between two shares of a schedule; (0, 0) where the shares are equal.

    Raises:
        SettingsError: they are no shares in this order, or no more than ``delay`` steps are between
            them.
    """
    if start == stop:
        return 0, 0
    window = Interval(start, stop).steps(steps)
    if window[1] - window[0] <= delay:
        raise SettingsError(
            f"By this rule a negative needs {delay + 1} steps to act, and from {start:g} to "
            f"{stop:g} there is {window[1] - window[0]}; give a longer interval."
        )
    return window


def second(
    rule: Rule, predictions: Mapping[Branch, Tensor], acting: bool, x: Tensor, sigma: Tensor
) -> Tensor:
    """The denoised prediction to guide against: what the rule makes of denoised predictions.

    A prediction that the rule takes as it is, is returned as it is, to the bit.
    """
    velocities = {branch: (x - denoised) / sigma for branch, denoised in predictions.items()}
    return _denoised(rule.second(velocities, acting), velocities, predictions, x, sigma)


def plain(rule: Rule, predictions: Mapping[Branch, Tensor], x: Tensor, sigma: Tensor) -> Tensor:
    """The denoised prediction to guide against without the negative, from denoised predictions."""
    velocities = {branch: (x - denoised) / sigma for branch, denoised in predictions.items()}
    return _denoised(rule.plain(velocities), velocities, predictions, x, sigma)


def _denoised(
    made: Tensor,
    velocities: Mapping[Branch, Tensor],
    predictions: Mapping[Branch, Tensor],
    x: Tensor,
    sigma: Tensor,
) -> Tensor:
    """What a rule has made of velocities; one of these, unchanged, is the prediction itself."""
    for branch, velocity in velocities.items():
        if made is velocity:
            return predictions[branch]
    return x - sigma * made


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What happens in each step of one run of a sampler.

    The negative acts by ``rule`` from step ``window[0]`` up to before ``window[1]``; outside, the
    prompt's branch stands alone or is guided against the unconditional one. The emerging picture is
    looked at once before each of ``look_steps``. Steps count from 0 in the whole schedule, of which
    the run begins with ``start``.
    """

    rule: type[Rule]
    scale: float
    weight: float
    window: tuple[int, int]
    afterwards: Afterwards
    look_steps: tuple[int, ...] = ()
    start: int = 0


class Branches(Protocol):
    """What a run of a sampler can be asked for in a step."""

    def evaluate(self, branches: Sequence[Branch]) -> Sequence[Tensor]:
        """The denoised predictions under these branches, one evaluation each."""
        ...

    def guided(self, positive: Tensor, against: Tensor | None) -> Tensor:
        """The guided prediction, ``against + scale (positive - against)``; None: no guidance."""
        ...

    def look(self, step: int, denoised: Tensor, acts: int) -> bool:
        """Show what is emerging; returns whether there is a negative from now on.

        A new text acts from the step ``acts`` on.
        """
        ...


class Run:
    """One run of a sampler by a schedule; ``acting`` says whether there is a negative.

    ``tally`` learns in what it acted.
    """

    def __init__(self, schedule: Schedule, acting: bool, tally: Tally) -> None:
        self.schedule, self.acting = schedule, acting
        self._rule = schedule.rule(schedule.scale, schedule.weight)
        self._unseen = set(schedule.look_steps)
        self._tally = tally
        self._last: tuple[int, Branch | None] = (-1, None)

    def denoised(self, step: int, x: Tensor, sigma: Tensor, branches: Branches) -> Tensor:
        """The guided prediction of an evaluation in ``step``; ``sigma`` broadcasts over ``x``."""
        rule, branch = self._rule, self._branch(step)
        predictions: dict[Branch, Tensor] = {}
        if branch is None or (step in self._unseen and branch == "negative"):
            (predictions["positive"],) = branches.evaluate(("positive",))
        if step in self._unseen and branch == "negative":
            self._look(step, step, predictions, x, sigma, branches)
            branch = self._branch(step)
        if branch is None:
            if step in self._unseen:
                self._look(step, step + 1, predictions, x, sigma, branches)
            return branches.guided(predictions["positive"], None)
        missing: list[Branch] = [b for b in ("positive", branch) if b not in predictions]
        predictions |= zip(missing, branches.evaluate(missing), strict=True)
        if step in self._unseen:
            acts = step if rule.beside else step + 1
            self._look(step, acts, predictions, x, sigma, branches)
        self._last = step, branch
        acting = self.acting and self._inside(step)
        if rule.beside and acting:
            (predictions["negative"],) = branches.evaluate(("negative",))
        without = plain(rule, predictions, x, sigma)
        against = second(rule, predictions, acting, x, sigma)
        if against is not without:
            self._note(step, predictions["positive"], against, without, x)
        return branches.guided(predictions["positive"], against)

    def _inside(self, step: int) -> bool:
        return self.schedule.window[0] <= step < self.schedule.window[1]

    def _branch(self, step: int) -> Branch | None:
        """The branch to compute beside the prompt's, the same in all evaluations of a step."""
        if not self._inside(step):
            return None if self.schedule.afterwards == "alone" else "empty"
        if self.acting and self._last[0] == step:
            return self._last[1]
        return self._rule.first(self.acting)

    def _look(
        self,
        step: int,
        acts: int,
        predictions: Mapping[Branch, Tensor],
        x: Tensor,
        sigma: Tensor,
        branches: Branches,
    ) -> None:
        """Have the picture looked at that emerges under plain guidance."""
        self._unseen.remove(step)
        positive = predictions["positive"]
        alone = len(predictions) == 1 and not self._inside(step)
        against = positive if alone else plain(self._rule, predictions, x, sigma)
        guided = paper_rule(positive, against, self.schedule.scale)
        self.acting = branches.look(step, guided, acts)
        if not self.acting:
            self._tally.withdraw([0])

    def _note(
        self, step: int, positive: Tensor, against: Tensor, without: Tensor, x: Tensor
    ) -> None:
        """Note how far the negative moved the guided velocity; the noise level cancels."""
        scale = self.schedule.scale
        guided, unmoved = (x - paper_rule(positive, b, scale) for b in (against, without))
        self._tally.add(step, [0], moved(guided, unmoved).mean().reshape(1))

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
from npcorrect.diffusion.guidance import paper_rule
from npcorrect.diffusion.rules import Rule
from npcorrect.plan import window_steps

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


def shares(start: float, stop: float, steps: int) -> tuple[int, int]:
    """The steps, from 0, between two shares of a schedule; (0, 0) where the shares are equal.

    Raises:
        SettingsError: they are no shares in this order, or no step is between them.
    """
    if start == stop:
        return 0, 0
    return window_steps(f"{float(start)}..{float(stop)}", steps)


def second(
    rule: Rule, predictions: Mapping[Branch, Tensor], acting: bool, x: Tensor, sigma: Tensor
) -> Tensor:
    """The denoised prediction to guide against: what the rule makes of denoised predictions.

    A prediction that the rule takes as it is, is returned as it is, to the bit.
    """
    velocities = {branch: (x - denoised) / sigma for branch, denoised in predictions.items()}
    combined = rule.second(velocities, acting)
    for branch, velocity in velocities.items():
        if combined is velocity:
            return predictions[branch]
    return x - sigma * combined


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

    def look(self, step: int, denoised: Tensor) -> bool:
        """Show what is emerging; returns whether a negative acts from now on."""
        ...


class Run:
    """One run of a sampler by a schedule; ``acting`` says whether there is a negative."""

    def __init__(self, schedule: Schedule, acting: bool) -> None:
        self.schedule, self.acting = schedule, acting
        self._rule = schedule.rule(schedule.scale, schedule.weight)
        self._unseen = set(schedule.look_steps)

    def denoised(self, step: int, x: Tensor, sigma: Tensor, branches: Branches) -> Tensor:
        """The guided prediction of an evaluation in ``step``; ``sigma`` broadcasts over ``x``."""
        inside = self.schedule.window[0] <= step < self.schedule.window[1]
        looks = step in self._unseen
        branch = self._first(looks) if inside else self._outside
        if branch is None:
            (positive,) = branches.evaluate(("positive",))
            computed, predictions = positive, {}
        else:
            positive, computed = branches.evaluate(("positive", branch))
            predictions = {"positive": positive, branch: computed}
        if looks:
            self._unseen.remove(step)
            self.acting = branches.look(step, paper_rule(positive, computed, self.schedule.scale))
        if branch is None:
            return branches.guided(positive, None)
        if not inside:
            return branches.guided(positive, computed)
        if self._rule.beside and self.acting:
            (predictions["negative"],) = branches.evaluate(("negative",))
        against = second(self._rule, predictions, self.acting, x, sigma)
        return branches.guided(positive, against)

    def _first(self, looks: bool) -> Branch:
        return self._rule.first(self.acting, looks)

    @property
    def _outside(self) -> Branch | None:
        """The branch beside the prompt's outside of the window."""
        return None if self.schedule.afterwards == "alone" else "empty"

"""A negative's schedule as a guider of diffusers' modular pipelines.

A guider is told each step, says which branches the denoiser computes, and combines them. So it can
carry the rules that act through guidance alone. Rules ``nag`` and ``vsf`` act within attention,
where no guider is; rule ``dynamic`` learns from x0 estimates, which a guider is not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers.configuration_utils import register_to_config
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor

from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.guidance import paper_rule
from npcorrect.diffusion.rules import RULES, Rule
from npcorrect.errors import SettingsError

Condition = Mapping[str, Tensor]
"""What a denoiser is given under a text, ``(1, ...)`` or ``(B, ...)``, by the guider's names."""
_PREDICTIONS: Mapping[Branch, str] = {
    "positive": "pred_cond",
    "empty": "pred_uncond",
    "negative": "pred_negative",
}
GUIDED = tuple(name for name, rule in RULES.items() if rule.guided and not rule.learns)
"""The rules that a guider can carry."""


class NegativeSchedule(BaseGuidance):  # type: ignore[misc, unused-ignore]
    """Classifier-free guidance in which a negative acts from one step to another.

    The pipeline's own second text stays the unconditional branch. Set ``negative`` to what
    :func:`condition` returns of the negative prompt. ``start`` and ``stop`` are shares of the
    steps, rounded to whole ones; ``rule`` and ``negative_scale`` are those of
    :mod:`npcorrect.diffusion.rules`.

    Raises:
        SettingsError: a setting cannot work.
    """

    _input_predictions = [*_PREDICTIONS.values()]  # noqa: RUF012 (diffusers' own name and type)

    @register_to_config
    def __init__(
        self,
        *,
        guidance_scale: float = 7.5,
        rule: str = "paper",
        negative_scale: float = 1.0,
        start: float = 0.0,
        stop: float = 3 / 50,
        enabled: bool = True,
    ) -> None:
        _check(guidance_scale, rule, start, stop)
        super().__init__(start, stop, enabled)
        self.guidance_scale = guidance_scale
        self.negative: Condition | None = None
        self._rule = self._new_rule()
        self._within: tuple[Branch, ...] = ()

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Begin a step, from 0: which branches it computes follows from it."""
        super().set_state(step, num_inference_steps, timestep)
        if step == 0:
            self._rule = self._new_rule()
        self._within = self._begin()

    def prepare_inputs(self, data: Mapping[str, Any]) -> list[Any]:
        """What the denoiser is given for each branch of the step.

        ``data`` has, by name, what belongs to the prompt and to the second text.

        Raises:
            SettingsError: the negative has a name that the pipeline does not.
        """
        if unknown := set(self.negative or ()) - set(data):
            raise SettingsError(
                f"The negative has {', '.join(sorted(unknown))}, and this pipeline takes "
                f"{', '.join(data)}; make it with condition() of the same pipeline."
            )
        return [self._batch(data, branch) for branch in self._branches]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Mapping[str, Any]) -> Any:
        """As :meth:`prepare_inputs`, by the names of a block's fields."""
        return self.prepare_inputs(_by_name(data, input_fields))

    def forward(
        self,
        pred_cond: Tensor,
        pred_uncond: Tensor | None = None,
        pred_negative: Tensor | None = None,
    ) -> Any:
        """The guided prediction from those that the step computed, all ``(B, ...)``."""
        given: dict[Branch, Tensor | None] = {
            "positive": pred_cond,
            "empty": pred_uncond,
            "negative": pred_negative,
        }
        predictions = {branch: tensor for branch, tensor in given.items() if tensor is not None}
        if not self._enabled:
            return GuiderOutput(pred=pred_cond, pred_cond=pred_cond, pred_uncond=None)
        second = self._rule.second(predictions, acting=bool(self._within))
        guided = paper_rule(pred_cond, second, self.guidance_scale)
        return GuiderOutput(pred=guided, pred_cond=pred_cond, pred_uncond=second)

    @property
    def is_conditional(self) -> bool:
        """Whether the branch that is prepared now is the prompt's."""
        return bool(self._count_prepared == 1)

    @property
    def num_conditions(self) -> int:
        """How many branches the step computes, 1 to 3."""
        return len(self._branches)

    @property
    def _branches(self) -> tuple[Branch, ...]:
        """The branches of the step; before the first one, those of plain guidance."""
        if not self._enabled:
            return ("positive",)
        return self._within or ("positive", "empty")

    def _begin(self) -> tuple[Branch, ...]:
        """The branches by which the rule decides in this step; none outside of the schedule."""
        start, stop = (
            round(share * self._num_inference_steps) for share in (self._start, self._stop)
        )
        if self.negative is None or not start <= self._step < stop:
            return ()
        first = self._rule.first(acting=True)
        return ("positive", first, "negative") if self._rule.beside else ("positive", first)

    def _batch(self, data: Mapping[str, Any], branch: Branch) -> Any:
        """What the denoiser is given for one branch."""
        batch = self._prepare_batch(data, int(branch != "positive"), _PREDICTIONS[branch])
        if branch == "negative":
            assert self.negative is not None
            for name, value in self.negative.items():
                rows = len(data[name][0]) // len(value)
                setattr(batch, name, value.repeat_interleave(rows, 0))
        return batch

    def _new_rule(self) -> Rule:
        return RULES[self.config.rule](self.config.guidance_scale, self.config.negative_scale)


class _Recorder(ClassifierFreeGuidance):  # type: ignore[misc, unused-ignore]
    """Plain guidance that keeps what the denoiser is given under the prompt."""

    recorded: Condition

    def prepare_inputs(self, data: Mapping[str, Any]) -> Any:
        """Keep the prompt's part of the data."""
        pairs = {name: pair for name, pair in data.items() if isinstance(pair, tuple)}
        self.recorded = {n: pair[0] for n, pair in pairs.items() if isinstance(pair[0], Tensor)}
        return super().prepare_inputs(data)

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Mapping[str, Any]) -> Any:
        """Keep the prompt's part of the block's fields."""
        return self.prepare_inputs(_by_name(data, input_fields))


def condition(pipeline: Any, text: str, **call: Any) -> Condition:
    """What a modular pipeline gives its denoiser under a text, in a call with these arguments.

    Draws one step of one picture, and leaves the pipeline's guider as it was. Give the arguments of
    the call that it is for, such as ``height`` and ``width``, which some models read with the text.
    """
    guider, recorder = pipeline.guider, _Recorder()
    pipeline.update_components(guider=recorder)
    try:
        pipeline(prompt=text, **{**call, "num_inference_steps": 1})
    finally:
        pipeline.update_components(guider=guider)
    return recorder.recorded


def _by_name(data: Any, input_fields: Mapping[str, Any]) -> dict[str, Any]:
    """A block's fields, by the guider's names, as pairs of the prompt's and the second text's."""
    pairs = {
        name: (field, field) if isinstance(field, str) else field
        for name, field in input_fields.items()
    }
    return {
        name: tuple(getattr(data, field, None) for field in pair) for name, pair in pairs.items()
    }


def _check(guidance_scale: float, rule: str, start: float, stop: float) -> None:
    if rule not in GUIDED:
        raise SettingsError(
            f"The rule {rule!r} is none that a guider can carry; use {', '.join(GUIDED)}."
        )
    if not 0 <= start < stop <= 1:
        raise SettingsError(
            f"The negative acts from {start} to {stop}; give two shares of the steps, the smaller "
            "one first."
        )
    if guidance_scale <= 1:
        raise SettingsError(
            f"At a guidance scale of {guidance_scale:g} a negative prompt has no effect; give one "
            "above 1."
        )

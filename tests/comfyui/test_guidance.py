"""The guider's arithmetic against the diffusers side: the same latents from the same network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL.Image import Image
from torch import Tensor

from comfyui.family import ANY, MINIATURE, Afterwards, Row, guided_rules, packed_noise
from comfyui.guidance import Run, Schedule, second, shares, step_of
from npcorrect.diffusion import restart
from npcorrect.diffusion.base import Glance, Watch
from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.receipt import Tally
from npcorrect.diffusion.rules import RULES, Extra, Paper
from npcorrect.errors import SettingsError
from npcorrect.mini.autoencoder import LATENT_CHANNELS
from npcorrect.mini.family import FAMILY
from npcorrect.plan import plan
from npcorrect.records import Drawing, Request
from tests.diffusion.shallow import shallow

Latents = np.ndarray[Any, Any]
STEPS, SCALE, WEIGHT = 6, 3.0, 1.5
PROMPT, NEGATIVE, RENEWED = "three red apples", "four apples", "two blue bananas"


@pytest.fixture(scope="module")
def model() -> PipelineModel:
    return PipelineModel("tiny", shallow(stir=True), replace(FAMILY, encode=None))


def drawing(rule: str, window: tuple[int, int], **changes: Any) -> Drawing:
    made = Drawing(
        prompt=PROMPT,
        seed=3,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        true_cfg_scale=SCALE,
        negative_scale=WEIGHT,
        rule=rule,
        window=window,
        height=192,
        width=192,
    )
    return replace(made, **changes)


@dataclass
class Euler:
    """Euler's sampler as ComfyUI has it, with the pipeline's network under a :class:`Run`."""

    model: PipelineModel
    drawing: Drawing
    glances: Sequence[Glance] = ()
    evaluated: int = 0
    looked: list[int] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    tally: Tally = field(default_factory=lambda: Tally(1))

    def __post_init__(self) -> None:
        self.texts: dict[Branch, str | None] = {
            "positive": PROMPT,
            "empty": "",
            "negative": self.drawing.negative_prompt,
        }

    def draw(self, afterwards: Afterwards) -> Tensor:
        d = self.drawing
        run = Run(
            Schedule(
                rule=RULES[d.rule],
                scale=d.true_cfg_scale,
                weight=d.negative_scale,
                window=d.window,
                afterwards=afterwards,
                look_steps=d.look_steps,
            ),
            acting=d.negative_prompt is not None,
            tally=self.tally,
        )
        sigmas = self.model.stock.sigmas(d)
        generator = torch.Generator().manual_seed(d.seed)
        noise = torch.randn(1, LATENT_CHANNELS, 6, 6, generator=generator)
        x: Tensor = self.model.pipeline._pack_latents(noise, 1, LATENT_CHANNELS, 6, 6)
        for step in range(STEPS):
            self.x, self.sigma = x, sigmas[step]
            assert step_of(sigmas, float(sigmas[step])) == step
            denoised = run.denoised(step, x, sigmas[step], self)
            x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
        return x

    def evaluate(self, branches: Sequence[Branch]) -> list[Tensor]:
        return [self._denoised(branch) for branch in branches]

    def _denoised(self, branch: Branch) -> Tensor:
        text = self.texts[branch]
        assert text is not None
        self.evaluated += 1
        stock = self.model.stock
        if text not in self.conditions:
            self.conditions[text] = stock.condition(self.drawing, [PROMPT], [text])
        v = stock.denoiser(
            hidden_states=self.x,
            timestep=self.sigma[None],
            return_dict=False,
            **self.conditions[text],
        )[0]
        denoised: Tensor = self.x - self.sigma * v
        return denoised

    def guided(self, positive: Tensor, against: Tensor | None) -> Tensor:
        return positive if against is None else against + SCALE * (positive - against)

    def look(self, step: int, denoised: Tensor, acts: int) -> bool:
        glance = self.glances[len(self.looked)]
        self.looked.append(step)
        self.texts["negative"] = glance.negative
        return glance.negative is not None


def both(
    model: PipelineModel, made: Drawing, glances: Sequence[Glance] = (), after: Any = "alone"
) -> tuple[Latents, Latents, list[int]]:
    """The latents of the diffusers side and of ours, and the evaluations of each."""
    stock = replace(model.stock, family=replace(model.family, after=after))
    theirs = PipelineModel("tiny", model.pipeline, stock.family)
    left = iter(glances)

    def look(first: int, images: Sequence[Image], negatives: Any) -> list[Glance]:
        return [next(left)]

    (drawn,) = theirs.draw([made], Watch(look=look if glances else None))
    assert drawn.origin is not None
    with torch.inference_mode():
        ours = Euler(theirs, made, glances)
        outside = after == "empty" or RULES[made.rule].renewable
        latents = ours.draw("unconditional" if outside else "alone").numpy()
    assert ours.looked == list(made.look_steps if glances else ())
    (receipt,) = ours.tally.receipts()
    assert drawn.receipt is not None
    assert replace(receipt, moved=0.0) == replace(drawn.receipt, moved=0.0)
    assert receipt.moved == pytest.approx(drawn.receipt.moved, rel=1e-3)
    return drawn.origin.latents, latents, [drawn.evaluations, ours.evaluated]


@pytest.mark.parametrize("after", ["alone", "empty"])
@pytest.mark.parametrize("window", [(0, STEPS), (0, 2), (2, 5)])
@pytest.mark.parametrize("rule", list(guided_rules()))
def test_a_negative_acts_as_on_the_diffusers_side(
    model: PipelineModel, rule: str, window: tuple[int, int], after: str
) -> None:
    theirs, ours, evaluations = both(model, drawing(rule, window), after=after)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert evaluations[0] == evaluations[1]


@pytest.mark.parametrize("rule", [name for name in RULES if name not in guided_rules()])
@pytest.mark.parametrize("row", [ANY, MINIATURE])
def test_rules_that_are_not_written_for_comfyui_are_refused_by_name(rule: str, row: Row) -> None:
    assert {"dynamic", "nag", "vsf"}.isdisjoint(row.rules)
    with pytest.raises(SettingsError, match=f"{rule!r} is not written for .* use rule 'paper'"):
        plan(Request("a red banana", rule=rule), row, row.defaults)


@pytest.fixture(scope="module")
def without_looks(model: PipelineModel) -> Callable[[str], Latents]:
    """The latents of the diffusers side under a rule, when nobody looks."""
    return cache(lambda rule: both(model, drawing(rule, (0, STEPS)))[0])


@pytest.mark.parametrize("second_glance", [None, RENEWED, NEGATIVE])
@pytest.mark.parametrize("rule", ["extra", "turns"])
@pytest.mark.parametrize("look_steps", [(2, 4), (3, 4), (1, 3)])
def test_looks_renew_the_negative_as_on_the_diffusers_side(
    model: PipelineModel,
    without_looks: Callable[[str], Latents],
    rule: str,
    second_glance: str | None,
    look_steps: tuple[int, ...],
) -> None:
    glances = [Glance(RENEWED, wrong=True), Glance(second_glance)]
    made = drawing(rule, (0, STEPS), look_steps=look_steps)
    theirs, ours, evaluations = both(model, made, glances)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert evaluations[0] == evaluations[1]
    assert np.abs(without_looks(rule) - theirs).max() > 1e-2


def test_a_prediction_that_is_taken_as_it_is_keeps_every_bit() -> None:
    x, positive, negative = torch.randn(3, 1, 4, 5, 5).unbind()
    predictions: dict[Branch, Tensor] = {"positive": positive, "negative": negative}
    assert second(Paper(SCALE, WEIGHT), predictions, True, x, torch.tensor(0.3)) is negative
    predictions = {"positive": positive, "empty": negative}
    assert second(Extra(SCALE, WEIGHT), predictions, False, x, torch.tensor(0.3)) is negative


@given(st.integers(1, 200), st.data())
def test_every_level_of_a_schedule_is_its_step(steps: int, data: st.DataObject) -> None:
    sigmas = torch.cat([torch.linspace(14.6, 0.03, steps), torch.zeros(1)])
    step = data.draw(st.integers(0, steps - 1))
    assert step_of(sigmas, float(sigmas[step])) == step
    between = float(sigmas[step]) * 0.4 + float(sigmas[step + 1]) * 0.6
    assert step_of(sigmas, between) == step
    assert step_of(sigmas, 100.0) == 0


@pytest.mark.parametrize(
    ("start", "stop", "window"),
    [(0, 1, (0, 24)), (0.5, 0.5, (0, 0)), (0, 0, (0, 0)), (0.25, 0.5, (6, 12))],
)
def test_shares_are_steps(start: float, stop: float, window: tuple[int, int]) -> None:
    assert shares(start, stop, 24) == window


def test_shares_without_a_step_between_are_refused() -> None:
    with pytest.raises(SettingsError, match="needs 2 steps to act"):
        shares(0.5, 0.54, 24, delay=1)
    with pytest.raises(SettingsError, match=r"0\.5\.\.0\.51"):
        shares(0.5, 0.51, 24)
    with pytest.raises(SettingsError, match=r"0\.9\.\.0\.1"):
        shares(0.9, 0.1, 24)


def test_the_noise_of_a_restart_is_that_of_packed_latents(model: PipelineModel) -> None:
    made = packed_noise(torch.zeros(1, 16, 6, 8), 5, 2)
    packed = model.pipeline._pack_latents(made, 1, 16, 6, 8)
    assert torch.equal(packed, restart.fresh_noise(packed, [5], 2))

"""Dynamic negative guidance within a draw: what the steps say decides how strong a negative is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import npcorrect
from npcorrect.diffusion.guidance import paper_rule
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.rules import Dynamic
from npcorrect.diffusion.schedulers import log_ratio
from npcorrect.errors import SettingsError
from npcorrect.records import Generation, Request
from tests.diffusion import test_families
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.test_families import TOLERANCE, pixels, same, watched
from tests.diffusion.tiny import OTHER, PROMPT

Models = Callable[[str], PipelineModel]
FAMILIES = ["flux-dev", "sdxl", "sd15", "qwen-image", "pixart-sigma", "z-image"]
"""Flow matching and diffusion, batched and separate calls, rescaled, with a learned variance."""
UNRELATED = "three green apples"


def draw(model: PipelineModel, text: str | None, **changes: Any) -> Generation:
    return test_families.draw(model, text, **{"rule": "dynamic", "steps": 6, **changes})


@pytest.fixture
def posteriors(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The posterior after each step, ``(B,)``."""
    seen: list[Tensor] = []
    learn = Dynamic.learn

    def watching(self: Dynamic, log_ratio: Tensor) -> None:
        learn(self, log_ratio)
        seen.append(self.posterior(log_ratio))

    monkeypatch.setattr(Dynamic, "learn", watching)
    return seen


def simulated(negative: Tensor, prompt: Tensor, mu: float, steps: int = 20) -> list[float]:
    """The posterior along a draw of one picture, by a model that knows its world exactly.

    The world is as many pictures as numbers, one for each unit vector, and all are as likely; a
    text names one of them.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    world, rule, seen = torch.eye(len(prompt)) * SPREAD, Dynamic(3.0, mu), []
    x = torch.randn(1, len(prompt), generator=torch.Generator().manual_seed(0))
    for step, time in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[step]
        logits = -(x - (1 - sigma) * world).square().sum(1) / (2 * sigma**2)
        empty = logits.softmax(0) @ world
        v_pos, v_empty, v_neg = ((x - x0) / sigma for x0 in (prompt, empty[None], negative))
        second = rule.second({"positive": v_pos, "empty": v_empty, "negative": v_neg}, acting=True)
        guided = paper_rule(v_pos, second, rule.scale)
        made, first, other = (x - sigma * v for v in (guided, v_neg, v_empty))
        rule.learn(log_ratio(scheduler, step, made, first, other))
        seen.append(rule.posterior(x).item())
        x = scheduler.step(guided, time, x).prev_sample
    return seen


SPREAD = 0.3
PLACES = st.tuples(st.integers(0, 7), st.integers(0, 7))


@given(PLACES, st.floats(0.05, 2))
def test_a_negative_fades_where_the_picture_is_another(places: tuple[int, int], mu: float) -> None:
    prompt, other = (torch.eye(8)[place] * SPREAD for place in places)
    posterior = simulated(other, prompt, mu)
    if places[0] == places[1]:
        assert max(posterior) > Dynamic.PRIOR
        assert posterior[0] >= Dynamic.PRIOR
    else:
        assert posterior[-1] < Dynamic.PRIOR / 100
        assert all(later <= earlier for earlier, later in pairwise(posterior))


@given(st.integers(0, 7), st.floats(0.05, 0.6))
def test_a_negative_that_is_the_picture_grows_and_stays(place: int, mu: float) -> None:
    """With a weight too small to keep the picture from being what the prompt says."""
    picture = torch.eye(8)[place] * SPREAD
    posterior = simulated(picture, picture, mu)
    assert all(later >= earlier - 1e-4 for earlier, later in pairwise([Dynamic.PRIOR, *posterior]))


def test_the_embedded_model_tells_related_negatives_from_others(posteriors: list[Tensor]) -> None:
    model = npcorrect.load()
    request = Request("two blue bananas and a green cup", seed=0, rule="dynamic", steps=10)
    last = {}
    for negative in ("two blue bananas", "four red apples"):
        posteriors.clear()
        draw_one(model, model.plan(request).drawing(0, negative))
        last[negative] = torch.cat(posteriors)
    assert last["two blue bananas"].max() > 1.5 * Dynamic.PRIOR
    assert last["four red apples"].max() < Dynamic.PRIOR
    assert last["four red apples"][-1] < Dynamic.PRIOR / 1000


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_is_learnt_from_within_the_bounds(
    models: Models, posteriors: list[Tensor], family: str
) -> None:
    model = models(family)
    draw(model, OTHER, first_steps=4)
    values = torch.cat(posteriors)
    assert len(values) == 4 + (family == "sd15")  # PNDM evaluates its first step twice.
    assert (values >= Dynamic.LEAST * 0.999).all()
    assert (values <= Dynamic.MOST * 1.001).all()
    assert (values != Dynamic.PRIOR).any()


@pytest.mark.parametrize("family", ["flux-dev", "sdxl", "qwen-image"])
def test_the_first_step_has_the_weight_of_the_prior(models: Models, family: str) -> None:
    """By rule ``extra`` the negative pulls the prompt's prediction, not the unconditional one."""
    model, mu, scale = models(family), 1.5, 3.0
    weight = mu * Dynamic.PRIOR / (1 - Dynamic.PRIOR)
    with watched(model) as dynamic:
        draw(model, OTHER, negative_scale=mu, scale=scale)
    # scale v_pos + (1 - scale + weight) v_empty - weight v_neg, written as rule extra has it.
    with watched(model) as extra:
        draw(model, OTHER, rule="extra", negative_scale=weight, scale=scale - weight, negative=1)
    torch.testing.assert_close(dynamic[0][0], extra[0][0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["flux-dev", "sdxl"])
def test_pictures_of_a_batch_are_independent(
    models: Models, posteriors: list[Tensor], family: str
) -> None:
    model = models(family)
    texts = (OTHER, UNRELATED)
    drawings = [resolved(model, Request(PROMPT, seed=3, rule="dynamic"), text) for text in texts]
    together = model.draw(drawings)
    rows = torch.stack(posteriors)
    for place, (drawing, drawn) in enumerate(zip(drawings, together, strict=True)):
        posteriors.clear()
        alone = draw_one(model, drawing)
        torch.testing.assert_close(torch.cat(posteriors), rows[:, place], rtol=1e-2, atol=1e-5)
        assert abs(pixels(alone.image) - pixels(drawn.image)).max() <= TOLERANCE
        assert drawn.evaluations == alone.evaluations


def test_the_empty_text_is_no_evidence_and_changes_nothing(
    models: Models, posteriors: list[Tensor]
) -> None:
    model = models("flux-dev")
    drawn, plain = (draw(model, "", first_steps=steps) for steps in (6, 0))
    assert abs(pixels(drawn.image) - pixels(plain.image)).max() <= TOLERANCE
    torch.testing.assert_close(torch.cat(posteriors), torch.full((6,), Dynamic.PRIOR))
    assert not same(draw(model, OTHER).image, plain.image)


def test_looks_are_refused_because_the_posterior_is_about_one_negative(models: Models) -> None:
    with pytest.raises(SettingsError, match="'dynamic' keeps one negative"):
        models("flux-dev").plan(Request(PROMPT, rule="dynamic", looks=1))

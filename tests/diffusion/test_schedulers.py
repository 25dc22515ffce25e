"""Steps are steps and noise levels are noise levels, whatever the scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import copy
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from npcorrect.diffusion.base import Glance, Watch
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.schedulers import call_steps, clean, log_ratio, prediction, sigma
from npcorrect.errors import ModelError, SettingsError
from npcorrect.records import Request
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import NEGATIVE, PROMPT

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
"""KDPM2's own use of numpy."""
Models = Callable[[str], PipelineModel]
SECOND_ORDER = (
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
FIRST_ORDER = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "EDMEulerScheduler",
    "EDMDPMSolverMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "LMSDiscreteScheduler",
    "LCMScheduler",
    "FlowMatchEulerDiscreteScheduler",
)


def scheduler(name: str, steps: int, **config: Any) -> Any:
    made = getattr(diffusers, name)(**config)
    more = {"intermediate_timesteps": None} if name == "SCMScheduler" else {}
    made.set_timesteps(steps, **more)
    return made


@pytest.mark.parametrize("name", SECOND_ORDER)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_step_of_second_order_has_two_calls_but_the_last(name: str, steps: int) -> None:
    counts = Counter(call_steps(scheduler(name, steps), steps))
    assert counts == dict.fromkeys(range(steps - 1), 2) | {steps - 1: 1}


@pytest.mark.parametrize("name", FIRST_ORDER)
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_a_step_of_first_order_has_one_call(name: str, steps: int) -> None:
    assert call_steps(scheduler(name, steps), steps) == tuple(range(steps))


def test_pndm_repeats_its_first_step_or_takes_four_calls_for_three() -> None:
    made = scheduler("PNDMScheduler", 6, skip_prk_steps=True)
    assert call_steps(made, 6) == (0, 0, 1, 2, 3, 4, 5)
    assert call_steps(scheduler("PNDMScheduler", 1, skip_prk_steps=True), 1) == (0,)
    runge_kutta = scheduler("PNDMScheduler", 6)
    assert call_steps(runge_kutta, 6) == (0,) * 4 + (1,) * 4 + (2,) * 4 + (3, 4, 5)


def test_steps_count_in_the_whole_schedule() -> None:
    made = scheduler("FlowMatchEulerDiscreteScheduler", 9)
    made.timesteps = made.timesteps[3:]
    assert call_steps(made, 9, 3) == tuple(range(3, 9))


def test_what_cannot_be_counted_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="SCMScheduler has 5 evaluations in 4 steps"):
        call_steps(scheduler("SCMScheduler", 4), 4)


@pytest.mark.parametrize("name", [*FIRST_ORDER, *SECOND_ORDER, "PNDMScheduler"])
def test_noise_levels_fall_from_step_to_step(name: str) -> None:
    config = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    made = scheduler(name, 8, **config)
    steps = call_steps(made, 8)
    levels = [float(sigma(made, steps.index(step))) for step in range(8)]
    assert levels == sorted(set(levels), reverse=True)
    if hasattr(made, "alphas_cumprod"):
        alpha = float(made.alphas_cumprod[made.timesteps[0].round().long()])
        assert levels[0] == pytest.approx(((1 - alpha) / alpha) ** 0.5, rel=0.02)


def network(made: Any, call: int, x0: torch.Tensor, noise: torch.Tensor) -> Any:
    """What a perfect denoiser is given and says at a timestep, by the papers' own formulas."""
    level = sigma(made, call)
    kind = made.config.get("prediction_type")
    if "FlowMatch" in type(made).__name__ or made.config.get("use_flow_sigmas"):
        return (1 - level) * x0 + level * noise, noise - x0
    if type(made).__name__.startswith("EDM"):
        data = made.config.sigma_data
        noisy = x0 + level * noise
        skip = data**2 / (level**2 + data**2)
        out = level * data / (level**2 + data**2).sqrt() * (-1 if kind == "v_prediction" else 1)
        return noisy / (level**2 + data**2).sqrt(), (x0 - skip * noisy) / out
    alpha, beta = 1 / (1 + level**2).sqrt(), level / (1 + level**2).sqrt()
    said = {"epsilon": noise, "v_prediction": alpha * noise - beta * x0}.get(kind, x0)
    return alpha * x0 + beta * noise, said


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *[(name, {}) for name in (*FIRST_ORDER, *SECOND_ORDER)],
        *[
            (name, {"prediction_type": kind})
            for name in ("DDIMScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler")
            for kind in ("sample", "v_prediction")
        ],
        ("EDMEulerScheduler", {"prediction_type": "v_prediction"}),
        ("EDMDPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
        ("EulerDiscreteScheduler", {"timestep_type": "continuous", "sigma_min": 0.002,
                                    "sigma_max": 700.0, "prediction_type": "v_prediction"}),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True,
                                         "prediction_type": "flow_prediction"}),
    ],
)  # fmt: skip
def test_a_perfect_prediction_gives_the_clean_latents(name: str, config: Any) -> None:
    made = scheduler(name, 10, **config)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    steps = call_steps(made, 10)
    for step in (0, 5, 9):
        call = steps.index(step)
        noisy, said = network(made, call, x0, noise)
        level = float(sigma(made, call))
        tolerance = 2e-5 * max(1.0, level)
        torch.testing.assert_close(clean(made, call, noisy, said), x0, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EulerDiscreteScheduler"])
def test_what_the_denoiser_is_given_is_what_the_scheduler_makes_of_noise(name: str) -> None:
    made = scheduler(name, 10)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    given = made.scale_model_input(x0 + made.sigmas[0] * noise, made.timesteps[0])
    torch.testing.assert_close(given, network(made, 0, x0, noise)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("SCMScheduler", {}),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}),
        ("DDIMScheduler", {"prediction_type": "unheard_of"}),
    ],
)
def test_what_cannot_be_looked_at_is_refused_by_name(name: str, config: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*give 0 looks"):
        prediction(scheduler(name, 4, **config))


def under(model: PipelineModel, name: str, **config: Any) -> PipelineModel:
    """The same model drawn by another scheduler."""
    pipeline = copy(model.pipeline)
    pipeline.scheduler = getattr(diffusers, name).from_config(model.pipeline.scheduler.config)
    pipeline.scheduler.register_to_config(**config)
    return PipelineModel(model.name, pipeline, model.family, model.defaults)


@pytest.mark.parametrize("family", ["sdxl", "sd15"])
@pytest.mark.parametrize("rule", ["paper", "extra", "turns", "nag"])
@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler"])
def test_both_calls_of_a_second_order_step_belong_to_it(
    models: Models, family: str, rule: str, name: str
) -> None:
    model = under(models(family), name)
    seen: list[tuple[int, int]] = []
    asked = Request(PROMPT, seed=3, rule=rule, steps=4, negative="1..3")
    drawn = draw_one(
        model, resolved(model, asked, NEGATIVE), Watch(lambda *step: seen.append(step))
    )
    assert drawn.receipt is not None
    receipt = (drawn.receipt.evaluations, drawn.receipt.start, drawn.receipt.stop)
    assert receipt == (4, 1, 3)
    more = {"paper": 0, "extra": 4, "turns": 0, "nag": 4}[rule]
    assert drawn.evaluations == 2 * 7 + more
    assert seen == [(step, 4) for step in range(1, 5)]


def test_by_turns_all_calls_of_a_step_have_one_turn(models: Models) -> None:
    model = under(models("sdxl"), "HeunDiscreteScheduler")
    asked = Request(PROMPT, seed=3, rule="turns", steps=4)
    drawn = draw_one(model, resolved(model, asked, NEGATIVE))
    assert drawn.receipt is not None
    assert (drawn.receipt.evaluations, drawn.receipt.start, drawn.receipt.stop) == (5, 1, 4)


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "EDMEulerScheduler", "DDIMScheduler"])
def test_a_step_is_looked_at_once(models: Models, name: str) -> None:
    model = under(models("sdxl"), name)
    looked: list[Any] = []

    def look(first: int, images: Any, negatives: Any) -> list[Glance]:
        looked.extend(images)
        return [Glance("one small blue star")]

    asked = Request(PROMPT, seed=3, rule="extra", steps=4, looks=2)
    drawing = resolved(model, asked, NEGATIVE)
    drawn = draw_one(model, drawing, Watch(look=look))
    assert len(looked) == drawn.looks == len(drawing.look_steps)
    assert drawn.steering == ((drawing.look_steps[0], "one small blue star"),)


def test_looks_under_a_scheduler_that_is_not_known_are_refused_in_the_plan(models: Models) -> None:
    model = under(models("sdxl"), "DDIMScheduler", prediction_type="unheard_of")
    with pytest.raises(SettingsError, match="DDIMScheduler"):
        model.plan(Request(PROMPT, rule="extra", looks=1))
    assert not model.plan(Request(PROMPT, rule="extra", looks=0)).looks


def test_an_uncounted_scheduler_is_refused_before_anything_is_evaluated(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = under(models("sdxl"), "DDIMScheduler")
    whole = model.pipeline.scheduler.set_timesteps

    def one_more(*args: Any, **kwargs: Any) -> None:
        whole(*args, **kwargs)
        times = model.pipeline.scheduler.timesteps
        model.pipeline.scheduler.timesteps = torch.cat([times, times[-1:]])

    monkeypatch.setattr(model.pipeline.scheduler, "set_timesteps", one_more)
    with pytest.raises(ModelError, match="DDIMScheduler has 4 evaluations in 3 steps"):
        draw_one(model, resolved(model, Request(PROMPT, seed=3), NEGATIVE))


FIVE = 5
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "timestep_spacing": "leading"}


def set_for_five(kind: str) -> Any:
    if kind == "flow":
        return scheduler("FlowMatchEulerDiscreteScheduler", FIVE, shift=3.0)
    return scheduler(kind, FIVE, **({} if kind.startswith("EDM") else BETAS))


def levels(chain: Any, step: int) -> tuple[float, float]:
    """Signal and noise before a step: ``x = a x0 + b e``."""
    if "alphas_cumprod" not in vars(chain):
        sigma = float(chain.sigmas[step])
        return (1.0 if "sigma_data" in chain.config else 1 - sigma), sigma
    alpha = float(chain.alphas_cumprod[int(chain.timesteps[step])])
    return alpha**0.5, (1 - alpha) ** 0.5


def density(chain: Any, step: int, noisy: Tensor, made: Tensor, given: Tensor) -> Tensor:
    """``log p(x' | x, x0)`` of ancestral sampling where the step goes by ``made``, ``(B,)``.

    By Bayes' rule on the forward process, from its levels alone.
    """
    (a, b), (c, d) = levels(chain, step), levels(chain, step + 1)
    forward = a / c
    variance = b**2 - forward**2 * d**2
    posterior = d**2 * variance / b**2

    def mean(x0: Tensor) -> Tensor:
        return (c * variance * x0 + forward * d**2 * noisy) / b**2

    logs: Tensor = Normal(mean(given), posterior**0.5).log_prob(mean(made))
    return logs.flatten(1).mean(1)


@pytest.mark.parametrize(
    "kind", ["flow", "DDIMScheduler", "EulerDiscreteScheduler", "EDMEulerScheduler"]
)
def test_the_ratio_is_that_of_two_transitions(kind: str) -> None:
    chain = set_for_five(kind)
    generator = torch.Generator().manual_seed(0)
    noisy, made, first, second = torch.randn(4, 3, 2, 4, 4, generator=generator).double()
    for step in range(FIVE - 1):
        expected = density(chain, step, noisy, made, first) - density(
            chain, step, noisy, made, second
        )
        found = log_ratio(chain, step, made, first, second)
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)
    assert not log_ratio(chain, FIVE - 1, made, first, second).any()


def test_a_step_towards_the_first_speaks_for_it() -> None:
    chain = set_for_five("flow")
    first, second = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    towards = log_ratio(chain, 1, torch.stack([first[0], second[1]]), first, second)
    assert towards[0] > 0 > towards[1]
    assert not log_ratio(chain, 1, first, second, second).any()

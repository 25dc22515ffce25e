"""Going back to a level of noise: the formula, the noise, and a scheduler left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from npcorrect.diffusion.restart import Clean, fresh_noise, restartable, starting_at
from npcorrect.errors import ModelError

CLEAN = Clean(torch.ones(2, 4, 3), torch.tensor([1.0, 0.75, 0.5, 0.0]))


def row(number: int) -> Clean:
    """One picture's alone, by way of its record."""
    return Clean.of([CLEAN.origin(number, "m")], "m", torch.device("cpu"), torch.float32)


def test_noised_latents_lie_between_the_picture_and_the_noise() -> None:
    noise = torch.randn(2, 4, 3)
    half = CLEAN.noised(2, noise)
    assert half.step == 2
    torch.testing.assert_close(half.latents, 0.5 * CLEAN.latents + 0.5 * noise)
    assert torch.equal(CLEAN.noised(0, noise).latents, noise)


def test_a_picture_goes_through_its_record_unchanged() -> None:
    origins = [CLEAN.origin(number, "m") for number in (0, 1)]
    assert all(origin.latents.dtype == origin.sigmas.dtype == np.float32 for origin in origins)
    again = Clean.of(origins, "m", torch.device("cpu"), torch.float32)
    assert torch.equal(again.latents, CLEAN.latents)
    assert torch.equal(again.sigmas, CLEAN.sigmas)
    with pytest.raises(ModelError, match="'n' cannot begin with a picture of 'm'"):
        Clean.of(origins, "n", torch.device("cpu"), torch.float32)


def test_noise_is_fresh_for_each_seed_and_turn_and_for_the_draw_itself() -> None:
    like = CLEAN.latents[:1]
    draws = [fresh_noise(like, [seed], turn) for seed in (0, 1) for turn in (0, 1)]
    draws.append(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0)))
    for i, one in enumerate(draws):
        assert all(not torch.allclose(one, other) for other in draws[i + 1 :])
    assert torch.equal(fresh_noise(like, [0, 1], 1), torch.cat([draws[1], draws[3]]))
    again = fresh_noise(like, [2**63 - 1], 3)
    assert torch.equal(again, fresh_noise(like, [2**63 - 1], 3))


def test_a_schedule_that_begins_later_is_the_end_of_the_whole_one() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    timesteps, sigmas = scheduler.timesteps, scheduler.sigmas
    with starting_at(scheduler, 2):
        scheduler.set_timesteps(num_inference_steps=6)
        assert torch.equal(scheduler.timesteps, timesteps[2:])
        assert torch.equal(scheduler.sigmas, sigmas[2:])
    scheduler.set_timesteps(6)
    assert torch.equal(scheduler.timesteps, timesteps)


def test_only_flow_matching_steps_depend_on_the_latents_alone() -> None:
    assert restartable(FlowMatchEulerDiscreteScheduler())
    assert not restartable(EulerDiscreteScheduler())


def test_a_scheduler_is_as_it_was_after_an_error() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(RuntimeError, match="stop"), starting_at(scheduler, 2):
        raise RuntimeError("stop")
    assert "set_timesteps" not in vars(scheduler)

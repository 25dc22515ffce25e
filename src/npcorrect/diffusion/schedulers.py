"""What must be known of a diffusers scheduler: its steps, its noise levels, and what it expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from npcorrect.errors import ModelError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor

Prediction = Literal["velocity", "noise", "v", "clean", "edm"]
"""What a denoiser predicts: the velocity of flow matching; the noise, the v of arXiv 2202.00512 or
the clean latents of a diffusion that keeps variances; either of the first two behind the
preconditioning of EDM (arXiv 2206.00364)."""
_DIFFUSION: dict[str, Prediction] = {
    "epsilon": "noise",
    "v_prediction": "v",
    "sample": "clean",
    "original_sample": "clean",
}
_PRK_CALLS = 12
"""Evaluations of PNDM's three Runge-Kutta steps."""


def call_steps(scheduler: Any, steps: int, start: int = 0) -> tuple[int, ...]:
    """The step, from 0, of each timestep of a scheduler that is set for ``steps`` from ``start``.

    A step of a second-order scheduler has two evaluations, but the last; the first step of PNDM has
    two, or each of its first three has four.

    Raises:
        ModelError: which evaluations belong to which step is not known.
    """
    calls = range(len(scheduler.timesteps))
    if hasattr(scheduler, "state_in_first_order"):
        made = tuple(call // 2 for call in calls)
    elif not hasattr(scheduler, "prk_timesteps"):
        made = tuple(start + call for call in calls)
    elif scheduler.config.skip_prk_steps:
        made = tuple(max(call - 1, 0) for call in calls)
    else:
        made = tuple(call // 4 if call < _PRK_CALLS else call - 9 for call in calls)
    if not made or made[-1] != steps - 1:
        raise ModelError(
            f"The scheduler {type(scheduler).__name__} has {len(calls)} evaluations in {steps} "
            "steps, and npc does not know which of them belong to a step; use another scheduler."
        )
    return made


def sigma(scheduler: Any, call: int) -> Tensor:
    """The noise level of a timestep, by its place; of a diffusion that of noise over signal."""
    if hasattr(scheduler, "sigmas"):
        level: Tensor = scheduler.sigmas[call]
        return level
    alpha = scheduler.alphas_cumprod[scheduler.timesteps[call].round().long()]
    return _root((1 - alpha) / alpha)


def prediction(scheduler: Any) -> Prediction:
    """What the denoiser of a scheduler predicts.

    Raises:
        SettingsError: npc does not know how its x0 estimate is made.
    """
    config, name = scheduler.config, type(scheduler).__name__
    kind = config.get("prediction_type", "flow_prediction")
    flow = name.startswith("FlowMatch") or config.get("use_flow_sigmas")
    if flow and kind == "flow_prediction":
        return "velocity"
    if hasattr(scheduler, "precondition_outputs") and kind in ("epsilon", "v_prediction"):
        return "edm"
    if not flow and hasattr(scheduler, "alphas_cumprod") and kind in _DIFFUSION:
        return _DIFFUSION[kind]
    raise SettingsError(
        f"What emerges under the scheduler {name} (prediction type {kind!r}) is not known; give 0 "
        "looks and another rule than 'dynamic', or use another scheduler."
    )


def clean(scheduler: Any, call: int, noisy: Tensor, predicted: Tensor) -> Tensor:
    """The clean latents (the x0 estimate) of a prediction at a timestep; shape of ``noisy``.

    ``call`` is the timestep's place, from 0. ``noisy``, ``(B, T, D)`` or ``(B, C, H, W)``, is as
    the denoiser sees it, scaled by the scheduler. A prediction with more channels than the latents
    carries a variance in the second half, which is left out.

    Raises:
        SettingsError: see :func:`prediction`.
    """
    predicted = predicted[:, : noisy.shape[1]] if noisy.ndim == 4 else predicted
    kind, level = prediction(scheduler), sigma(scheduler, call).to(noisy)
    if kind == "velocity":
        return noisy - level * predicted  # x_t = (1 - sigma) x0 + sigma eps and v = eps - x0
    if kind == "clean":
        return predicted
    if kind == "edm":
        unscaled = noisy * _root(level**2 + scheduler.config.sigma_data**2)
        denoised: Tensor = scheduler.precondition_outputs(unscaled, predicted, level)
        return denoised
    alpha = 1 / (1 + level**2)
    if kind == "v":  # x0 = alpha z - sigma v; arXiv 2202.00512, where sigma^2 = 1 - alpha^2
        return _root(alpha) * noisy - _root(1 - alpha) * predicted
    # x0 = (x_t - sqrt(1 - alpha) eps) / sqrt(alpha); arXiv 2006.11239, equation 15
    return (noisy - _root(1 - alpha) * predicted) / _root(alpha)


def log_ratio(scheduler: Any, call: int, made: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``log p(x' | x, first) - log p(x' | x, second)`` for each number of a picture, ``(B,)``.

    ``x'`` is where a timestep, by its place from 0, goes by the x0 estimate ``made``, without the
    noise that a sampler may add; the other two are x0 estimates under two conditions; all
    ``(B, ...)``. Transitions are the Gaussians of ancestral sampling (arXiv 2006.11239, equations 6
    and 7), whose ratio is ``- (SNR' - SNR) (|made - first|^2 - |made - second|^2) / 2``, with the
    signal-to-noise ratios after and before. The last timestep has no variance; it says nothing, 0.
    """
    difference = (made - first).square() - (made - second).square()
    mean = difference.float().flatten(1).mean(dim=1)
    if call + 1 >= len(scheduler.timesteps):
        return mean * 0
    return -(_snr(scheduler, call + 1) - _snr(scheduler, call)) / 2 * mean


def _snr(scheduler: Any, call: int) -> float:
    """The signal-to-noise ratio before a timestep; of a diffusion that of the whole signal."""
    level = float(sigma(scheduler, call))
    signal = 1 - level if prediction(scheduler) == "velocity" else 1.0
    return (signal / level) ** 2


def _root(value: Tensor) -> Tensor:
    root: Tensor = value**0.5
    return root

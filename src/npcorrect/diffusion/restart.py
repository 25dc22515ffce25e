"""Start of a draw in the middle of its schedule, from clean latents noised to that level.

Flow matching draws along ``x_sigma = (1 - sigma) x_0 + sigma noise``, so a picture, finished or
only expected, can be taken back to any level of noise and drawn again from there (SDEdit, arXiv
2108.01073; restart sampling, arXiv 2306.14878).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from npcorrect.records import Origin

_PRIME = 1_000_003


@dataclass(frozen=True)
class Clean:
    """Clean latents of pictures, one row each, and the noise levels of the whole schedule.

    ``sigmas`` has one more entry than there are steps; the last is 0.
    """

    latents: Tensor
    sigmas: Tensor

    @classmethod
    def of(
        cls, origins: Sequence[Origin], model: str, device: torch.device, dtype: torch.dtype
    ) -> Clean:
        """What pictures begin with, from their origins.

        Raises:
            ModelError: an origin is another model's.
        """
        for origin in origins:
            origin.check(model)
        latents = torch.cat([torch.from_numpy(origin.latents) for origin in origins])
        return cls(latents.to(device, dtype), torch.from_numpy(origins[0].sigmas).to(device))

    def origin(self, row: int, model: str) -> Origin:
        """The origin of the picture at ``row``: its latents, ``(1, ...)``, and sigmas, as arrays.

        ``model`` is the name of the model that drew it, which alone can begin with it.
        """
        latents = self.latents[row : row + 1].float().cpu().numpy()
        return Origin(model, latents, self.sigmas.float().cpu().numpy())

    def noised(self, step: int, noise: Tensor) -> Begin:
        """Where a draw begins at ``step``, from 0, with a ``noise`` of the latents' shape."""
        sigma = self.sigmas[step].to(self.latents)
        return Begin(step, (1 - sigma) * self.latents + sigma * noise.to(self.latents))


@dataclass(frozen=True)
class Begin:
    """A step, from 0, and the noisy latents that it begins with, as the pipeline takes them."""

    step: int
    latents: Tensor


class Rewind(Exception):  # noqa: N818 (no error: what is drawn goes back)
    """Ends a pipeline's call, because the picture that emerges is wrong."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean


def restartable(scheduler: Any) -> bool:
    """Whether each of its steps depends on the latents alone."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler)


@contextmanager
def starting_at(scheduler: Any, step: int) -> Iterator[None]:
    """Let a pipeline's schedule begin at ``step``, from 0, whatever the pipeline sets it to."""
    if not step:
        yield
        return
    whole = scheduler.set_timesteps

    @wraps(whole)
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        whole(*args, **kwargs)
        scheduler.timesteps = scheduler.timesteps[step:]
        scheduler.sigmas = scheduler.sigmas[step:]

    scheduler.set_timesteps = set_timesteps
    try:
        yield
    finally:
        del scheduler.set_timesteps


def fresh_noise(like: Tensor, seeds: Sequence[int], turn: int) -> Tensor:
    """The noise of a restart, a row of the shape of ``like`` for each seed.

    ``turn`` counts how often these pictures were taken back already. It differs from that with
    which a draw from the same seed begins.
    """
    generators = (torch.Generator().manual_seed((_PRIME * s + turn + 1) % 2**63) for s in seeds)
    return torch.cat([torch.randn(like.shape, generator=g).to(like) for g in generators])

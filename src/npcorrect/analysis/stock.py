"""Announces the branches of a stock diffusers pipeline, which does not say them itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

from npcorrect.analysis.layouts import Order, layout_of
from npcorrect.diffusion.announcing import Branch, Evaluation, announce
from npcorrect.errors import ModelError

_NAME = "npcorrect_stock_branches"


class _Announcer(ModelHook):  # type: ignore[misc, unused-ignore]
    def __init__(self, order: Order, pictures: int, guided: bool) -> None:
        super().__init__()
        self._order, self._pictures, self._guided = order, pictures, guided
        self._calls = 0
        self._time: Any = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        arguments = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        latents = arguments[next(name for name in arguments if name != "self")]
        time = next(arguments[name] for name in ("timestep", "t") if name in arguments)
        with announce(self._evaluation(len(latents), torch.as_tensor(time))):
            return self.fn_ref.original_forward(*args, **kwargs)

    def _evaluation(self, rows: int, time: torch.Tensor) -> Evaluation:
        """What this call is, in the family's order.

        Raises:
            ModelError: it does not fit that order.
        """
        halves: tuple[Branch, ...] = ("positive",)
        step, second = self._calls, 0
        if self._guided and self._order == "in turn":
            step, second = divmod(self._calls, 2)
            halves = ("negative",) if second else ("positive",)
        elif self._guided:
            halves = ("positive", "negative")
            halves = halves[::-1] if self._order == "negative first" else halves
        if rows != len(halves) * self._pictures or (second and not torch.equal(time, self._time)):
            raise ModelError(
                f"The denoiser was called with {rows} rows at call {self._calls}, which does not "
                f"fit {self._pictures} pictures with the {self._order!r} order of guidance."
            )
        self._calls += 1
        self._time = time
        return Evaluation(step, tuple((n, half) for half in halves for n in range(self._pictures)))


@contextmanager
def stock_branches(denoiser: nn.Module, pictures: int = 1, guided: bool = True) -> Iterator[None]:
    """Announce the branches while a stock pipeline makes one draw of so many pictures.

    ``guided`` says whether the draw has a second branch. Enter it after ``trace``.

    Raises:
        ModelError: the family is unknown, or a call does not fit its order of branches.
    """
    order = layout_of(denoiser).order
    registry = HookRegistry.check_if_exists_or_initialize(denoiser)
    registry.register_hook(_Announcer(order, pictures, guided), _NAME)
    try:
        yield
    finally:
        registry.remove_hook(_NAME)

"""When the negative acts: a hook on the denoiser, so that no pipeline is forked.

With true classifier-free guidance ``FluxPipeline`` calls its transformer twice a step: first under
the prompt, then under the negative. The hook keeps the first answer and decides what the second
one is. It counts steps by itself, and every evaluation that really happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from npcorrect.diffusion.announcing import Branch, Evaluation, announce
from npcorrect.diffusion.guidance import extra_rule, paper_rule, stand_in

_NAME = "npcorrect_window"


@dataclass(frozen=True)
class ExtraDirection:
    """What rule ``extra`` adds to some pictures of a batch.

    ``rows`` are their places in the batch, ``(R,)``; ``embeddings`` their negatives', ``R`` rows
    each, by the denoiser's argument names. ``txt_ids`` has no rows.
    """

    rows: Tensor
    embeddings: dict[str, Tensor]


Steer = Callable[[int, Tensor], ExtraDirection]
"""Called with a step, from 0, and the clean latents that the model expects at the end,
``(B, tokens, channels)``; returns the direction from this step on."""


@dataclass
class Extra:
    """Rule ``extra``: its scales, the direction now, and who renews it at which steps."""

    scale: float
    mu: float
    direction: ExtraDirection
    look_steps: tuple[int, ...] = ()
    steer: Steer | None = None


class Window(ModelHook):  # type: ignore[misc, unused-ignore]
    """The hook; ``evaluations`` counts the denoiser's calls so far, for each picture of a batch."""

    def __init__(self, window_steps: int, batch: int, guided: bool, extra: Extra | None) -> None:
        super().__init__()
        self.window_steps, self.guided, self.extra = window_steps, guided, extra
        self.calls = 0
        self.evaluations = torch.zeros(batch, dtype=torch.long)
        self.positive: Tensor | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's ``forward``."""
        step, second = divmod(self.calls, 2 if self.guided else 1)
        self.calls += 1
        if not second:
            output = self._evaluate(step, "positive", *args, **kwargs)
            self.positive = output[0]
            return output
        assert self.positive is not None
        inside = step < self.window_steps
        if self.extra is None:
            if not inside:
                return (self.positive,)
            return self._evaluate(step, "negative", *args, **kwargs)
        empty = self._evaluate(step, "empty", *args, **kwargs)
        return self._with_extra(self.extra, step, self.positive, empty, kwargs) if inside else empty

    def _with_extra(
        self, extra: Extra, step: int, positive: Tensor, empty: Any, kwargs: dict[str, Any]
    ) -> Any:
        """The second branch that makes the pipeline's guidance equal rule ``extra``."""
        if extra.steer is not None and step in extra.look_steps:
            guided = paper_rule(positive, empty[0], extra.scale)
            sigma = kwargs["timestep"][:, None, None]
            extra.direction = extra.steer(step, kwargs["hidden_states"] - sigma * guided)
        rows = extra.direction.rows
        if not len(rows):
            return empty
        own = {name: kwargs[name][rows] for name in ("hidden_states", "timestep")}
        arguments = {**kwargs, **own, **extra.direction.embeddings}
        negative = self._evaluate(step, "negative", rows=rows, **arguments)[0]
        p, e = positive[rows], empty[0][rows]
        second = empty[0].clone()
        second[rows] = stand_in(
            extra_rule(p, e, negative, extra.scale, extra.mu), p, extra.scale
        ).to(second.dtype)
        return (second,)

    def _evaluate(
        self, step: int, branch: Branch, *args: Any, rows: Tensor | None = None, **kwargs: Any
    ) -> Any:
        if rows is None:
            rows = torch.arange(len(self.evaluations))
        self.evaluations[rows] += 1
        with announce(Evaluation(step, tuple((picture, branch) for picture in rows.tolist()))):
            return self.fn_ref.original_forward(*args, **kwargs)


@contextmanager
def window(
    denoiser: nn.Module,
    window_steps: int,
    batch: int = 1,
    guided: bool = True,
    extra: Extra | None = None,
) -> Iterator[Window]:
    """Attach the hook for one draw of ``batch`` pictures, and take it off whatever happens.

    Without ``extra`` (the paper's rule), the stock second branch acts for ``window_steps`` steps;
    afterwards it is not computed and the conditional branch stands alone. With ``extra``, the
    second branch is the empty prompt at all steps, and the negative's direction is added within
    the window. ``guided`` says whether the pipeline makes a second call at all.
    """
    registry = HookRegistry.check_if_exists_or_initialize(denoiser)
    hook = Window(window_steps, batch, guided, extra)
    registry.register_hook(hook, _NAME)
    try:
        yield hook
    finally:
        registry.remove_hook(_NAME)

"""When the negative acts: a hook on the denoiser, so that no pipeline is forked.

With true classifier-free guidance ``FluxPipeline`` calls its transformer twice a step: first under
the prompt, then under the negative. The hook keeps the first answer and decides what the second
one is. It counts steps by itself, and every evaluation that really happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from npcorrect.diffusion.guidance import extra_rule, stand_in

_NAME = "npcorrect_window"


@dataclass(frozen=True)
class ExtraDirection:
    """What rule ``extra`` adds: the negative's embeddings, by the denoiser's argument names."""

    embeddings: dict[str, Tensor]
    scale: float
    mu: float


class Window(ModelHook):  # type: ignore[misc, unused-ignore]
    """The hook; ``evaluations`` counts the denoiser's calls so far."""

    def __init__(self, window_steps: int, guided: bool, extra: ExtraDirection | None) -> None:
        super().__init__()
        self.window_steps, self.guided, self.extra = window_steps, guided, extra
        self.calls = 0
        self.evaluations = 0
        self.positive: Tensor | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's ``forward``."""
        if not self.guided:
            return self._evaluate(*args, **kwargs)
        step, second = divmod(self.calls, 2)
        self.calls += 1
        inside = step < self.window_steps
        if not second:
            output = self._evaluate(*args, **kwargs)
            self.positive = output[0]
            return output
        assert self.positive is not None
        if self.extra is None:
            return self._evaluate(*args, **kwargs) if inside else (self.positive,)
        empty = self._evaluate(*args, **kwargs)
        if not inside:
            return empty
        negative = self._evaluate(*args, **{**kwargs, **self.extra.embeddings})[0]
        scale = self.extra.scale
        target = extra_rule(self.positive, empty[0], negative, scale, self.extra.mu)
        return (stand_in(target, self.positive, scale),)

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self.evaluations += 1
        return self.fn_ref.original_forward(*args, **kwargs)


@contextmanager
def window(
    denoiser: nn.Module,
    window_steps: int,
    guided: bool = True,
    extra: ExtraDirection | None = None,
) -> Iterator[Window]:
    """Attach the hook for one draw, and take it off again whatever happens.

    Without ``extra`` (the paper's rule), the stock second branch acts for ``window_steps`` steps;
    afterwards it is not computed and the conditional branch stands alone. With ``extra``, the
    second branch is the empty prompt at all steps, and the negative's direction is added within
    the window. ``guided`` says whether the pipeline makes a second call at all.
    """
    registry = HookRegistry.check_if_exists_or_initialize(denoiser)
    hook = Window(window_steps, guided, extra)
    registry.register_hook(hook, _NAME)
    try:
        yield hook
    finally:
        registry.remove_hook(_NAME)

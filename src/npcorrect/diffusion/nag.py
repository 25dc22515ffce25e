"""Normalized Attention Guidance (arXiv 2505.21179): the negative acts within attention.

It needs no second prediction, so it works where a model was distilled to draw without guidance.
Both texts go through the denoiser as two halves of a batch. Wherever image tokens attend to text,
the processors here replace both halves' features by the guided ones, so the image stream stays one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from re import fullmatch
from typing import Any, Literal

from torch import Tensor, nn

from npcorrect.diffusion.calls import Arguments
from npcorrect.diffusion.guidance import nag_rule


@dataclass(frozen=True)
class NagSite:
    """Attention modules, and where among their tokens the image is.

    ``modules`` is a pattern of their names. ``tokens`` says which tokens of the attention's result
    are the image's. ``projected`` says whether the module projects its result itself; if not, the
    result is what it returns.
    """

    modules: str
    tokens: Literal["all", "first", "last"] = "all"
    projected: bool = True


@dataclass(frozen=True)
class NagSpec:
    """How a family takes NAG: its sites, its strength, and what stays the positive prompt's.

    ``tau`` and ``alpha`` are the paper's. ``keeps`` names arguments that text decides but that act
    outside attention. ``image_tokens`` counts the tokens of latents of the denoiser's shape.
    """

    sites: tuple[NagSite, ...]
    tau: float = 2.5
    alpha: float = 0.25
    keeps: tuple[str, ...] = ()
    image_tokens: Callable[[Any], int] = lambda latents: int(latents.shape[1])


@dataclass(frozen=True)
class Nag:
    """NAG on one denoiser at one scale, the paper's phi."""

    denoiser: nn.Module
    spec: NagSpec
    scale: float

    def kept(self, condition: Arguments) -> Arguments:
        """The part of a negative's arguments that acts within attention."""
        return {name: value for name, value in condition.items() if name not in self.spec.keeps}

    @cached_property
    def places(self) -> list[tuple[Any, NagSite]]:
        """The attention modules that are sites."""
        return [
            (module, site)
            for name, module in self.denoiser.named_modules()
            for site in self.spec.sites
            if fullmatch(site.modules, name)
        ]

    @contextmanager
    def attached(self, latents: Any) -> Iterator[None]:
        """The processors on all sites for one call with latents like these, and off again."""
        count = self.spec.image_tokens(latents)
        stock = [module.processor for module, _ in self.places]
        try:
            for (module, site), processor in zip(self.places, stock, strict=True):
                module.processor = nag_processor(processor, site, self._guide(site, count))
            yield
        finally:
            for (module, _), processor in zip(self.places, stock, strict=True):
                module.processor = processor

    def _guide(self, site: NagSite, count: int) -> Callable[[Tensor, int | None], Tensor]:
        tokens = {"all": slice(None), "first": slice(0, count), "last": slice(-count, None)}

        def guide(z_2BTD: Tensor, width: int | None) -> Tensor:
            guided = z_2BTD.clone()
            place = (tokens[site.tokens], slice(width))
            z_pos, z_neg = z_2BTD[:, *place].chunk(2)
            z = nag_rule(z_pos, z_neg, self.scale, self.spec.tau, self.spec.alpha)
            guided[:, *place] = z.repeat(2, 1, 1)
            return guided

        return guide


def nag_processor(
    stock: Any, site: NagSite, guide: Callable[[Tensor, int | None], Tensor]
) -> Callable[..., Any]:
    """An attention processor: the stock one, with its features guided before the projection.

    Its signature is the stock one's, because modules hand it only what that names.
    """

    @wraps(type(stock).__call__)
    def call(self: Any, attn: Any, *args: Any, **kwargs: Any) -> Any:
        if not site.projected:
            return guide(stock(attn, *args, **kwargs), None)
        fused = not isinstance(attn.to_out, nn.ModuleList)
        projection = attn.to_out if fused else attn.to_out[0]
        width = attn.inner_dim if fused else None
        handle = projection.register_forward_pre_hook(
            lambda _, inputs: (guide(inputs[0], width), *inputs[1:])
        )
        try:
            return stock(attn, *args, **kwargs)
        finally:
            handle.remove()

    made: Callable[..., Any] = type("NagProcessor", (), {"__call__": call})()
    return made

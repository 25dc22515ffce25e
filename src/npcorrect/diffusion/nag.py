"""Normalized Attention Guidance (arXiv 2505.21179): the negative acts within attention.

It needs no second prediction, so it works where a model was distilled to draw without guidance.
Both texts go through the denoiser as two halves of a batch, each with its own pooled embedding
where the reference has it so (FLUX.1). Wherever image tokens attend to text, the processors here
replace both halves' features by the guided ones. The reference is the authors' own code,
github.com/ChenDarYen/Normalized-Attention-Guidance; the tests compute it anew, without this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from re import fullmatch
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from npcorrect.diffusion.attention import AttentionSite, Within, replaced
from npcorrect.diffusion.calls import Arguments, Calls
from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.guidance import moved, nag_rule
from npcorrect.records import Drawing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from npcorrect.diffusion.sampling import Stock


@dataclass(frozen=True)
class NagSpec:
    """How a family takes NAG: its sites, its strength, and what stays the positive prompt's.

    ``tau`` and ``alpha`` are the paper's; ``norm`` is that of the features which tau limits, L1 or
    L2. ``keeps`` names arguments that text decides but that act outside attention. ``positive`` is
    a pattern of modules that scale and shift the image by ``emb``, for both halves by the positive
    half's. ``image_tokens`` counts the tokens of latents of the denoiser's shape.
    """

    sites: tuple[AttentionSite, ...]
    tau: float = 2.5
    alpha: float = 0.25
    norm: Literal[1, 2] = 1
    keeps: tuple[str, ...] = ()
    positive: str = ""
    image_tokens: Callable[[Any], int] = lambda latents: int(latents.shape[1])
    branches: ClassVar[tuple[Branch, ...]] = ("positive", "negative")

    def condition(
        self, stock: Stock, drawing: Drawing, prompts: Sequence[str], texts: Sequence[str]
    ) -> Arguments:
        """The negatives' arguments that act within attention."""
        condition = stock.condition(drawing, prompts, texts)
        return {name: value for name, value in condition.items() if name not in self.keeps}

    @contextmanager
    def within(
        self,
        denoiser: nn.Module,
        scale: float,
        calls: Calls,
        arguments: Arguments,
        condition: Arguments,
    ) -> Iterator[Within]:
        """NAG at ``scale``, the paper's phi; see :class:`AttentionSpec`."""
        with attached(denoiser, self, scale, arguments[calls.state[0]]) as changes:
            yield Within(calls.join(arguments, arguments | condition), changes)


@contextmanager
def attached(
    denoiser: nn.Module, spec: NagSpec, scale: float, latents: Any
) -> Iterator[list[Tensor]]:
    """NAG at ``scale``, the paper's phi, on all sites of a denoiser, and off again.

    ``latents`` are those of the call, of the denoiser's shape; they say how many tokens are the
    image's. Gives a list that fills with how far each site's image features were moved, ``(B,)``.
    """
    count = spec.image_tokens(latents)
    norms = [m for name, m in denoiser.named_modules() if fullmatch(spec.positive, name)]
    handles = [norm.register_forward_pre_hook(_by_the_positive, with_kwargs=True) for norm in norms]

    changes: list[Tensor] = []

    def guided(stock: Any, site: AttentionSite) -> Any:
        return nag_processor(stock, site, _guide(spec, scale, site, count, changes))

    try:
        with replaced(denoiser, spec.sites, guided):
            yield changes
    finally:
        for handle in handles:
            handle.remove()


def _by_the_positive(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A module's arguments with the positive half's ``emb`` for both halves."""
    return args, kwargs | {"emb": kwargs["emb"].chunk(2)[0].repeat(2, 1)}


def _guide(
    spec: NagSpec, scale: float, site: AttentionSite, count: int, changes: list[Tensor]
) -> Callable[[Tensor, int | None], Tensor]:
    tokens = {"all": slice(None), "first": slice(0, count), "last": slice(-count, None)}

    def guide(z_2BTD: Tensor, width: int | None) -> Tensor:
        guided = z_2BTD.clone()
        place = (tokens[site.tokens], slice(width))
        z_pos, z_neg = z_2BTD[:, *place].chunk(2)
        z = nag_rule(z_pos, z_neg, scale, spec.tau, spec.alpha, spec.norm)
        changes.append(moved(z, z_pos))
        guided[:, *place] = z.repeat(2, 1, 1)
        return guided

    return guide


def nag_processor(
    stock: Any, site: AttentionSite, guide: Callable[[Tensor, int | None], Tensor]
) -> Callable[..., Any]:
    """An attention processor: the stock one, with its features guided before the projection.

    ``guide`` takes features ``(2 B, T, D)``, the positive prompt's half first, and how many of
    their first channels are attention's (None: all), and returns them guided, of the same shape.
    The processor's signature is the stock one's, because modules hand it only what that names.
    """

    @wraps(type(stock).__call__)
    def call(self: Any, attn: Any, *args: Any, **kwargs: Any) -> Any:
        if not site.projected:
            return guide(stock(attn, *args, **kwargs), None)
        fused = not hasattr(attn.to_out, "__getitem__")
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

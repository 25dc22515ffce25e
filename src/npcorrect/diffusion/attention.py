"""What rules within attention have in common: where they act, and how they get there and off again.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from re import fullmatch
from typing import TYPE_CHECKING, Any, Literal, Protocol

from npcorrect.diffusion.calls import Arguments, Calls
from npcorrect.diffusion.current_call import Branch
from npcorrect.records import Drawing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from npcorrect.diffusion.sampling import Stock


@dataclass(frozen=True)
class AttentionSite:
    """Attention modules, and where among their tokens the image is.

    ``modules`` is a pattern of their names. ``tokens`` says which tokens of the attention's result
    are the image's. ``projected`` says whether the module projects its result itself; if not, the
    result is what it returns.
    """

    modules: str
    tokens: Literal["all", "first", "last"] = "all"
    projected: bool = True


@dataclass(frozen=True)
class Within:
    """One evaluation under a rule within attention.

    ``changes`` fills with how far each site's image features were moved, ``(B,)``; see
    :func:`npcorrect.diffusion.guidance.moved`.
    """

    arguments: Arguments
    changes: list[Tensor]


class AttentionSpec(Protocol):
    """How a family takes a rule that acts within attention."""

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches of an evaluation with the negative, in the order of its rows."""
        ...

    def condition(
        self, stock: Stock, drawing: Drawing, prompts: Sequence[str], texts: Sequence[str]
    ) -> Arguments:
        """What :meth:`within` needs of negative ``texts``, one row each, drawn for ``prompts``."""
        ...

    def within(
        self,
        denoiser: nn.Module,
        scale: float,
        calls: Calls,
        arguments: Arguments,
        condition: Arguments,
    ) -> AbstractContextManager[Within]:
        """The rule on the denoiser for one evaluation, whose arguments are given, and off again.

        ``arguments`` are the prompt's. The first rows of the evaluation's result are the
        prediction.
        """
        ...


@contextmanager
def replaced(
    denoiser: nn.Module,
    sites: Sequence[AttentionSite],
    made: Callable[[Any, AttentionSite], Any],
) -> Iterator[None]:
    """Other attention processors at the sites, ``made`` of the stock ones, and these again."""
    places = [
        (module, module.processor, site)
        for name, module in denoiser.named_modules()
        for site in sites
        if fullmatch(site.modules, name)
    ]
    try:
        for module, processor, site in places:
            module.processor = made(processor, site)
        yield
    finally:
        for module, processor, _ in places:
            module.processor = processor

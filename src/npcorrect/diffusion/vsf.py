"""Value Sign Flip (arXiv 2508.10931): the negative's tokens are attended to with flipped values.

The negative's tokens stand after the prompt's in one evaluation, so that it costs almost nothing.
The picture attends to copies of them whose values are ``-alpha`` times theirs, with ``beta`` taken
from the logits, and not to themselves. They attend to the picture and to each other; the prompt's
tokens attend to the picture and to each other. The pooled embedding stays the prompt's. This is the
published form, for Stable Diffusion 3.5 Turbo; the reference is github.com/weathon/VSF.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from npcorrect.diffusion.attention import AttentionSite, Within, replaced
from npcorrect.diffusion.calls import Arguments, Calls
from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.guidance import moved
from npcorrect.diffusion.text import fast
from npcorrect.errors import ModelError
from npcorrect.records import Drawing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from npcorrect.diffusion.sampling import Stock

_TEXT = "encoder_hidden_states"
_LOOKED_AT = 16
"""Tokens of the image, evenly spread, whose attention is computed without the negative too."""
Flip = Callable[..., "Tensor"]
"""Attention in place of ``scaled_dot_product_attention``; its arguments, and its result."""


@dataclass(frozen=True)
class VsfSpec:
    """How a family takes VSF: its joint attention, ``beta``, and how it reads a text.

    ``text`` says whether the text's tokens stand before or after the image's. ``clips`` are
    tokenizers whose states, side by side and padded, come before those of the encoder that
    ``max_sequence_length`` counts.
    """

    sites: tuple[AttentionSite, ...]
    text: Literal["first", "last"]
    beta: float = 0.0
    clips: tuple[str, ...] = ()
    branches: ClassVar[tuple[Branch, ...]] = ("positive",)

    def condition(
        self, stock: Stock, drawing: Drawing, prompts: Sequence[str], texts: Sequence[str]
    ) -> Arguments:
        """The states of each text's own tokens, ``(B, N, D)``, and in ``seen`` which are tokens."""
        from torch.nn.utils.rnn import pad_sequence

        pairs = zip(prompts, texts, strict=True)
        states = [self._states(stock, drawing, prompt, text) for prompt, text in pairs]
        seen = pad_sequence([row.new_ones(len(row)) for row in states], batch_first=True).bool()
        return {_TEXT: pad_sequence(states, batch_first=True), "seen": seen}

    def _states(self, stock: Stock, drawing: Drawing, prompt: str, text: str) -> Tensor:
        """The states of a text's tokens without padding, ``(N, D)``."""
        length = stock.family.text.count(stock.pipeline, text, prompt=False)
        unpadded = replace(stock, max_sequence_length=length)
        states: Tensor = unpadded.condition(drawing, [prompt], [text])[_TEXT][0]
        if not self.clips:
            return states
        tokens = [
            len(fast(getattr(stock.pipeline, clip))(text)["input_ids"]) for clip in self.clips
        ]
        places = [*range(min(max(tokens), len(states) - length)), *range(-length, 0)]
        return states[places]

    @contextmanager
    def within(
        self,
        denoiser: nn.Module,
        scale: float,
        calls: Calls,
        arguments: Arguments,
        condition: Arguments,
    ) -> Iterator[Within]:
        """VSF at ``scale``, the paper's alpha; see :class:`AttentionSpec`."""
        prompt, seen = arguments[_TEXT].shape[1], condition["seen"]
        changes: list[Tensor] = []

        def flip(attend: Flip, query: Tensor, key: Tensor, value: Tensor, **more: Any) -> Tensor:
            tokens = _tokens(query.shape[2], prompt, seen.shape[1], self.text)
            mask = flip_mask(tokens, seen, self.beta).to(query)
            result = flipped(attend, query, key, value, tokens, mask, scale, **more)
            changes.append(_change(result, query, key, value, tokens, more.get("scale")))
            return result

        with replaced(denoiser, self.sites, lambda stock, _: vsf_processor(stock, flip)):
            yield Within(appended(arguments, condition[_TEXT]), changes)


Tokens = tuple[slice, slice, slice]
"""Which tokens of joint attention are the prompt's, the negative's and the image's."""


def _tokens(total: int, prompt: int, negative: int, text: Literal["first", "last"]) -> Tokens:
    start = 0 if text == "first" else total - prompt - negative
    end = start + prompt + negative
    image = slice(end, total) if text == "first" else slice(0, start)
    return slice(start, start + prompt), slice(start + prompt, end), image


def appended(arguments: Arguments, negative: Tensor) -> Arguments:
    """The prompt's arguments with the negative's states ``(B, N, D)`` after its own."""
    import torch

    more = {_TEXT: torch.cat([arguments[_TEXT], negative], dim=1)}
    if "txt_ids" in arguments:
        ids = arguments["txt_ids"]
        more["txt_ids"] = torch.cat([ids, ids.new_zeros(negative.shape[1], ids.shape[-1])])
    return arguments | more


def flip_mask(tokens: Tokens, seen: Tensor, beta: float) -> Tensor:
    """What is added to the logits, ``(B, 1, Q, Q + N)``; the keys are as in :func:`flipped`.

    ``seen`` is False for padding among the negative's tokens, ``(B, N)``.
    """
    import torch

    prompt, negative, image = tokens
    count = max(prompt.stop, negative.stop, image.stop)
    mask = torch.zeros(len(seen), 1, count, count, device=seen.device)
    copies = mask.new_full((len(seen), 1, count, seen.shape[1]), -torch.inf)
    for queries, keys in ((prompt, negative), (negative, prompt), (image, negative)):
        mask[..., queries, keys] = -torch.inf
    copies[..., image, :] = -beta
    padding = ~seen[:, None, None]
    mask[..., negative].masked_fill_(padding, -torch.inf)
    return _with_copies(mask, copies.masked_fill(padding, -torch.inf), tokens, dim=3)


def flipped(
    attend: Flip,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Tokens,
    mask: Tensor,
    alpha: float,
    **more: Any,
) -> Tensor:
    """Attention with the negative's keys once more, and ``-alpha`` times their values.

    Queries, keys and values are ``(B, H, Q, D)``. The copies stand at the image's end of the keys,
    so that the text stays at the other.
    """
    copies = key[:, :, tokens[1]], -alpha * value[:, :, tokens[1]]
    keys, values = (
        _with_copies(original, copy, tokens, dim=2)
        for original, copy in zip((key, value), copies, strict=True)
    )
    return attend(query, keys, values, **more | {"attn_mask": mask})


def _change(
    result: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Tokens,
    scale: float | None,
) -> Tensor:
    """How far the negative has moved :data:`_LOOKED_AT` of the image's tokens, ``(B,)``."""
    import torch

    prompt, _, image = tokens
    places = range(image.start, image.stop)
    some = list(places[:: max(1, len(places) // _LOOKED_AT)])
    keys, values = (torch.cat([x[:, :, prompt], x[:, :, image]], dim=2) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = scale * query[:, :, some] @ keys.transpose(-1, -2)
    return moved(result[:, :, some], logits.softmax(-1) @ values)


def _with_copies(originals: Tensor, copies: Tensor, tokens: Tokens, dim: int) -> Tensor:
    import torch

    _, negative, image = tokens
    first = image.start < negative.start
    return torch.cat([copies, originals] if first else [originals, copies], dim=dim)


def vsf_processor(stock: Any, flip: Flip) -> Any:
    """An attention processor: the stock one, whose one attention is computed by ``flip``.

    ``flip`` takes the attention that it stands for before its arguments.

    Raises:
        ModelError: the stock one does not attend by ``scaled_dot_product_attention``, once.
    """

    @wraps(type(stock).__call__)
    def call(self: Any, attn: Any, *args: Any, **kwargs: Any) -> Any:
        flips: list[None] = []
        with _instead(flip, flips):
            result = stock(attn, *args, **kwargs)
        if len(flips) != 1:
            raise ModelError(
                f"Rule 'vsf' needs torch's scaled_dot_product_attention, which "
                f"{type(stock).__name__} does not compute once; use rule 'nag'."
            )
        return result

    return type("VsfProcessor", (), {"__call__": call})()


def _instead(flip: Flip, flips: list[None]) -> AbstractContextManager[Any]:
    """Computes torch's attention by ``flip`` in a ``with`` block, and notes each in ``flips``."""
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    class Flipping(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            if func is not scaled_dot_product_attention:
                return func(*args, **(kwargs or {}))
            flips.append(None)
            return flip(func, *args, **(kwargs or {}))

    return Flipping()

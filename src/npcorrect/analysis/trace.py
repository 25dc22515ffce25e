"""Capture: what a denoiser's image tokens attend to among its text tokens.

Nothing of a model is computed anew but the softmax. While the denoiser runs, its own calls of
``scaled_dot_product_attention`` are watched, so queries and keys are the model's, with all its
projections, norms and rotary embeddings, and so is the mask. Each call is answered unchanged.
Probabilities are reduced at once, a chunk of queries at a time: what stays grows with steps, blocks
and text tokens, and by one map a step for each wanted term.

Sizes are B rows of a batch, H heads, Q queries, K keys, D channels; I image tokens, T text tokens,
W wanted terms, S steps.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode

from npcorrect.analysis.layouts import Layout, Sides, layout_of
from npcorrect.diffusion.current_call import Branch, Evaluation, announced
from npcorrect.errors import ModelError

CHUNK = 1 << 22
"""Probabilities that are held at once, at most (but always those of one query)."""
Terms = Mapping[str, Sequence[int]]
"""For each term that wants a map, the places of its tokens among the text's keys."""
_NAME = "npcorrect_trace"


@dataclass(frozen=True)
class Attention:
    """What one branch of one picture attended to.

    ``steps`` are those in which the branch was evaluated, from 0. ``text_SBT`` is the attention
    probability of each text token in each block (B), ``rest_SB`` that of all other keys together
    (in joint attention the picture's own tokens); both are means over heads and image tokens, and
    they add up to 1. ``among_SBT`` comes from a softmax over the text tokens alone, so that it adds
    up to 1 by itself. ``maps_SWI`` has each term's probability for every image token, a mean over
    heads and the blocks of one resolution, by its number of image tokens; ``blocks_at`` says how
    many blocks these are.
    """

    steps: tuple[int, ...]
    blocks: tuple[str, ...]
    terms: tuple[str, ...]
    text_SBT: Tensor
    rest_SB: Tensor
    among_SBT: Tensor
    maps_SWI: Mapping[int, Tensor]
    blocks_at: Mapping[int, int]

    def maps(self, height: int, width: int) -> Tensor:
        """Each term's map over a picture of these proportions, ``(S, W, rows, columns)``.

        Means over all blocks at the finest resolution; coarser maps are enlarged.

        Raises:
            ModelError: a number of image tokens makes no grid of these proportions.
        """
        grids = {tokens: grid(tokens, height, width) for tokens in self.maps_SWI}
        finest = grids[max(grids)]
        total = torch.zeros(len(self.steps), len(self.terms), *finest)
        for tokens, maps_SWI in self.maps_SWI.items():
            laid = maps_SWI.unflatten(-1, grids[tokens])
            larger = interpolate(laid, finest, mode="bilinear", align_corners=False)
            total += larger * self.blocks_at[tokens]
        return total / sum(self.blocks_at.values())


def grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns that a picture's tokens make.

    Raises:
        ModelError: they make no grid of these proportions.
    """
    rows = round((tokens * height / width) ** 0.5)
    if not rows or tokens % rows:
        raise ModelError(f"{tokens} image tokens make no grid of {height} x {width} pixels.")
    return rows, tokens // rows


@dataclass(frozen=True)
class Reduced:
    """One attention call, each tensor as in :class:`Attention`."""

    text_BT: Tensor
    rest_B: Tensor
    among_BT: Tensor
    maps_BWI: Tensor


def reduce(
    query_BHQD: Tensor,
    key_BHKD: Tensor,
    sides: Sides,
    wanted_BTW: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Reduced:
    """Softmax over all keys for the image's queries, then means; a chunk of queries at a time.

    ``wanted_BTW`` is 1 where a text token belongs to a term. ``mask`` is as in
    ``scaled_dot_product_attention``: False, or an addend, for what must not be seen.
    """
    batch, heads, queries, channels = query_BHQD.shape
    keys = key_BHKD.repeat_interleave(heads // key_BHKD.shape[1], dim=1).float()
    first, last, _ = sides.image.indices(queries)
    chunk = max(1, CHUNK // (batch * heads * keys.shape[2]))
    text_BT = keys.new_zeros(batch, len(range(*sides.text.indices(keys.shape[2]))))
    among_BT = torch.zeros_like(text_BT)
    rest_B = keys.new_zeros(batch)
    maps = []
    for start in range(first, last, chunk):
        rows = slice(start, min(start + chunk, last))
        logits = query_BHQD[:, :, rows].float() @ keys.transpose(2, 3)
        logits *= channels**-0.5 if scale is None else scale
        if mask is not None:
            own = mask[..., rows, :] if mask.shape[-2] > 1 else mask
            logits = (
                logits.masked_fill(~own, -torch.inf) if own.dtype == torch.bool else logits + own
            )
        # Where the mask hides the whole text, its softmax is 0 / 0; nothing of it is attended to.
        among_BHIT = logits[..., sides.text].softmax(dim=-1).nan_to_num(0.0)
        among_BT += among_BHIT.mean(dim=1).sum(dim=1)
        seen_BIK = logits.softmax(dim=-1).mean(dim=1)
        seen_BIT = seen_BIK[..., sides.text]
        text_BT += seen_BIT.sum(dim=1)
        rest_B += seen_BIK[..., : sides.text.start].sum(dim=(1, 2))
        rest_B += seen_BIK[..., sides.text.stop :].sum(dim=(1, 2))
        maps.append(wanted_BTW.transpose(1, 2) @ seen_BIT.transpose(1, 2))
    image = last - first
    return Reduced(text_BT / image, rest_B / image, among_BT / image, torch.cat(maps, dim=2))


@dataclass
class _Record:
    """One branch of one picture, as it comes in; by step."""

    text: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    rest: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    among: dict[int, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    maps: dict[int, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    blocks: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, step: int, block: str, reduced: Reduced, row: int, terms: int) -> None:
        self.text[step].append(reduced.text_BT[row])
        self.rest[step].append(reduced.rest_B[row])
        self.among[step].append(reduced.among_BT[row])
        maps_WI = reduced.maps_BWI[row, :terms]
        if len(maps_WI):
            tokens = maps_WI.shape[1]
            self.blocks[tokens].add(block)
            known = self.maps[tokens].get(step)
            self.maps[tokens][step] = maps_WI if known is None else known + maps_WI


class Trace(ModelHook):  # type: ignore[misc, unused-ignore]
    """The hook that :func:`trace` attaches, and what it captured so far."""

    def __init__(self, layout: Layout, blocks: Sequence[str], terms: Sequence[Terms]) -> None:
        super().__init__()
        self._layout, self._blocks, self._terms = layout, tuple(blocks), terms
        self._records: dict[tuple[int, Branch], _Record] = defaultdict(_Record)
        self._inside: list[str] = []

    def branches(self, picture: int = 0) -> tuple[Branch, ...]:
        """The branches of a picture that were evaluated, in order of appearance."""
        return tuple(branch for number, branch in self._records if number == picture)

    def of(self, picture: int = 0, branch: Branch = "positive") -> Attention:
        """What one branch of one picture attended to.

        Texts of different lengths in one branch (a renewed negative) are padded with zeros.

        Raises:
            KeyError: the branch was not evaluated.
        """
        if branch not in self.branches(picture):
            raise KeyError(f"branch {branch!r} of picture {picture} was not evaluated")
        record = self._records[picture, branch]
        return Attention(
            tuple(record.text),
            self._blocks,
            tuple(self._wanted(picture, branch)),
            _by_step(record.text),
            torch.stack([torch.stack(blocks) for blocks in record.rest.values()]).cpu(),
            _by_step(record.among),
            {
                tokens: torch.stack(list(kept.values())).cpu() / len(record.blocks[tokens])
                for tokens, kept in record.maps.items()
            },
            {tokens: len(blocks) for tokens, blocks in record.blocks.items()},
        )

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's ``forward``: the same answer, overheard."""
        evaluation = announced()
        if evaluation is None:
            raise ModelError(
                "The denoiser was called, and nobody said for which branch; draw with a "
                "PipelineModel, which says it."
            )
        if evaluation.step == 0:
            self._records |= {who: _Record() for who in evaluation.rows}
        call = inspect.signature(type(module).forward).bind(module, *args, **kwargs)
        call.apply_defaults()
        heard: dict[str, None] = {}

        def hear(query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> None:
            if not self._inside:
                return
            block = self._inside[-1]
            if block in heard:
                raise ModelError(
                    f"{block!r} attends more than once in one evaluation, so its attention to "
                    "the prompt cannot be told apart; take image adapters off."
                )
            heard[block] = None
            self._add(evaluation, block, call.arguments, query, key, mask, scale)

        with _Overhearing(hear):
            output = self.fn_ref.original_forward(*args, **kwargs)
        missing = [block for block in self._blocks if block not in heard]
        if missing:
            raise ModelError(
                f"The attention of {missing[0]!r} does not go through torch's "
                "scaled_dot_product_attention and cannot be captured; use diffusers' 'native' "
                "attention backend, without attention slicing and torch.compile."
            )
        self._blocks = tuple(heard)
        return output

    @torch.no_grad()
    def _add(
        self,
        evaluation: Evaluation,
        block: str,
        call: Mapping[str, Any],
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scale: float | None,
    ) -> None:
        """Reduce one call of attention, all rows with the same sides together."""
        by_sides: dict[tuple[int, ...], tuple[Sides, list[int]]] = {}
        for row in range(len(evaluation.rows)):
            sides = self._layout.sides(call, row, query.shape[2], key.shape[2])
            ends = (sides.image.start, sides.image.stop, sides.text.start, sides.text.stop)
            by_sides.setdefault(ends, (sides, []))[1].append(row)
        for sides, rows in by_sides.values():
            whose = [evaluation.rows[row] for row in rows]
            wanted = [self._wanted(*who) for who in whose]
            everyone = len(rows) == len(query)
            reduced = reduce(
                query if everyone else query[rows],
                key if everyone else key[rows],
                sides,
                _indicator(wanted, sides.text.stop - sides.text.start).to(query.device),
                mask if mask is None or everyone or len(mask) == 1 else mask[rows],
                scale,
            )
            for place, (who, terms) in enumerate(zip(whose, wanted, strict=True)):
                self._records[who].add(evaluation.step, block, reduced, place, len(terms))

    def _wanted(self, picture: int, branch: Branch) -> Terms:
        """Terms are words of the prompt, so only the positive branch has them."""
        return self._terms[picture] if self._terms and branch == "positive" else {}


def _by_step(texts: Mapping[int, Sequence[Tensor]]) -> Tensor:
    """``(S, B, T)``; texts of different lengths are padded with zeros."""
    steps = [torch.stack(tuple(blocks)).T for blocks in texts.values()]
    return pad_sequence(steps, batch_first=True).transpose(1, 2).cpu()


Hear = Callable[[Tensor, Tensor, Tensor | None, float | None], None]
"""Called with query, key, mask and scale of an attention."""


class _Overhearing(TorchFunctionMode):
    """Tells ``hear`` of every attention computed in a ``with`` block, and changes none."""

    def __init__(self, hear: Hear) -> None:
        super().__init__()
        self._hear = hear

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is scaled_dot_product_attention:
            self._tell(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _tell(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        if is_causal:
            length = query.shape[2], key.shape[2]
            attn_mask = torch.ones(length, dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            attn_mask = attn_mask.expand(*(1,) * (4 - attn_mask.ndim), *attn_mask.shape)
        self._hear(query, key, attn_mask, scale)


def _indicator(wanted: Sequence[Terms], tokens: int) -> Tensor:
    """``(B, T, W)``: 1 where a token belongs to a term."""
    found = torch.zeros(len(wanted), tokens, max(map(len, wanted)))
    for row, terms in enumerate(wanted):
        for place, those in enumerate(terms.values()):
            found[row, list(those), place] = 1
    return found


@contextmanager
def trace(denoiser: nn.Module, terms: Sequence[Terms] = ()) -> Iterator[Trace]:
    """Capture the attention of a denoiser, for each picture and branch, while pictures are drawn.

    The denoiser's answers stay what they were, and nothing of this is left on it afterwards. A
    picture that is drawn again (because memory ran out, or in a second draw) starts anew.
    ``terms`` has, for each picture of a batch, the terms of its prompt that want maps. Branches
    and steps are those that :func:`npcorrect.diffusion.current_call.announce` tells.

    Raises:
        ModelError: the denoiser's attention cannot be captured.
    """
    layout = layout_of(denoiser)
    modules = layout.modules(denoiser)
    hook = Trace(layout, tuple(modules), terms)
    registry = HookRegistry.check_if_exists_or_initialize(denoiser)
    with ExitStack() as attached:
        for name, module in modules.items():
            attached.callback(_enter(module, hook._inside, name).remove)
            attached.callback(_leave(module, hook._inside).remove)
        registry.register_hook(hook, _NAME)
        attached.callback(registry.remove_hook, _NAME)
        yield hook


def _enter(module: nn.Module, inside: list[str], name: str) -> Any:
    return module.register_forward_pre_hook(lambda *_: inside.append(name))


def _leave(module: nn.Module, inside: list[str]) -> Any:
    def leave(*_: Any) -> None:
        inside.pop()

    return module.register_forward_hook(leave, always_call=True)

"""One draw on a diffusers pipeline: what it is called with, and what its hook is to do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass
from inspect import signature
from math import inf
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from npcorrect.diffusion.base import Drawing, Look
from npcorrect.diffusion.branches import Arguments
from npcorrect.diffusion.families import FamilySpec
from npcorrect.diffusion.latents import clean
from npcorrect.diffusion.nag import Nag
from npcorrect.diffusion.window import (
    Extra,
    ExtraDirection,
    NagBranch,
    Plan,
    Recorded,
    Recorder,
    attached,
)

_GUIDED = 2.0
"""Any scale at which every pipeline makes its second branch; used where only that is wanted."""


@dataclass(frozen=True)
class Stock:
    """A diffusers pipeline of some family, and how it is called."""

    pipeline: Any
    family: FamilySpec
    max_sequence_length: int

    @property
    def denoiser(self) -> nn.Module:
        """The network that the pipeline asks in every step."""
        module: nn.Module = getattr(self.pipeline, self.family.denoiser)
        return module

    def draw(
        self,
        drawing: Drawing,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guided: bool,
        second: Sequence[str] | None,
    ) -> list[Image]:
        """The stock call; under guidance against ``second`` texts, None for the pipeline's own."""
        scale = drawing.true_cfg_scale if guided else 1.0 - self.family.scale_offset
        images: list[Image] = self._call(self.pipeline, drawing, prompts, seeds, scale, second)
        return images

    def condition(
        self, drawing: Drawing, prompts: Sequence[str], texts: Sequence[str] | None
    ) -> Arguments:
        """The denoiser's arguments under ``texts``, one row each, as the pipeline makes them.

        They are recorded from a stock call that ends before the denoiser computes anything. Texts
        stand in the negative's place, unless the family has none; ``prompts`` fill the other.
        """
        second = not self.family.distilled
        recorder = Recorder(self.family.calls, len(prompts), second)
        aside = copy(self.pipeline)
        aside.scheduler = deepcopy(self.pipeline.scheduler)
        scale = _GUIDED if second else 1.0 - self.family.scale_offset
        first = prompts if second or texts is None else texts
        with attached(self.denoiser, recorder), suppress(Recorded):
            self._call(aside, drawing, first, [0] * len(prompts), scale, texts if second else None)
        return recorder.arguments

    def preview(
        self, drawing: Drawing, step: int, noisy: Tensor, prediction: Tensor
    ) -> list[Image]:
        """The pictures that a prediction at ``step``, from 0, stands for."""
        signed = self.family.sign * prediction
        latents = clean(self.pipeline.scheduler, step, noisy, signed)
        return self.decoded(latents, drawing.height, drawing.width)

    def decoded(self, latents: Tensor, height: int, width: int) -> list[Image]:
        """Clean latents, in the denoiser's layout, as pictures."""
        pixels = self.family.decode(self.pipeline, latents, height, width)
        images: list[Image] = self.pipeline.image_processor.postprocess(pixels)
        return images

    def _call(
        self,
        pipeline: Any,
        drawing: Drawing,
        prompts: Sequence[str],
        seeds: Sequence[int],
        scale: float,
        second: Sequence[str] | None,
    ) -> Any:
        arguments = {
            "prompt": list(prompts),
            "height": drawing.height,
            "width": drawing.width,
            "num_inference_steps": drawing.num_inference_steps,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "return_dict": False,
        }
        arguments |= {**self.family.arguments, self.family.scale_argument: scale}
        if "max_sequence_length" in signature(type(pipeline).__call__).parameters:
            arguments["max_sequence_length"] = self.max_sequence_length
        if second is not None:
            arguments |= self._negative(list(second))
        return pipeline(**arguments)[0]

    def _negative(self, texts: list[str]) -> Arguments:
        if self.family.negative_as == "text":
            return {"negative_prompt": texts}
        length = self.max_sequence_length
        embeddings = self.pipeline.encode_prompt(texts, max_sequence_length=length)[0]
        return {"negative_prompt_embeds": embeddings}


@dataclass(frozen=True)
class Draw:
    """Pictures drawn together, with the call and the plan that their rule makes of them.

    ``negatives`` is None where no negative acts.
    """

    stock: Stock
    drawings: Sequence[Drawing]
    negatives: Sequence[str] | None
    steering: Steering

    @property
    def first(self) -> Drawing:
        """What the drawings have in common, and more."""
        return self.drawings[0]

    @property
    def prompts(self) -> list[str]:
        """The prompts, in order."""
        return [drawing.prompt for drawing in self.drawings]

    @property
    def replaced(self) -> bool:
        """Whether the negatives are what the pipeline is guided against."""
        return self.first.rule == "paper" and self.negatives is not None

    @property
    def guided(self) -> bool:
        """Whether the pipeline makes a second branch."""
        family = self.stock.family
        wanted = self.replaced or self.first.rule == "extra" or family.after == "empty"
        return wanted and family.guides(self.first.true_cfg_scale)

    @property
    def empties(self) -> list[str] | None:
        """The family's empty text for each picture; None: the pipeline's own."""
        empty = self.stock.family.empty
        return None if empty is None else [empty] * len(self.drawings)

    def images(self) -> list[Image]:
        """The pictures, by the stock call."""
        second = self.negatives if self.replaced else self.empties
        return self.stock.draw(
            self.first,
            self.prompts,
            [drawing.seed for drawing in self.drawings],
            self.guided,
            second if self.guided else None,
        )

    def plan(self) -> Plan:
        """What the hook is to do."""
        batch, first = len(self.drawings), self.first
        if self.negatives is None:
            return Plan(batch, self.guided)
        steps = inf if first.window_steps == first.num_inference_steps else first.window_steps
        if first.rule == "extra":
            return Plan(batch, True, steps, extra=self._extra())
        if first.rule == "nag":
            return Plan(batch, self.guided, steps, nag=self._nag())
        if self.stock.family.after == "alone":
            return Plan(batch, True, steps, alone=True, second="negative")
        empty = None if steps == inf else self._condition(self.empties)
        return Plan(batch, True, steps, empty=empty, second="negative")

    def _condition(self, texts: Sequence[str] | None) -> Arguments:
        return self.stock.condition(self.first, self.prompts, texts)

    def _nag(self) -> NagBranch:
        spec = self.stock.family.nag
        assert spec is not None
        nag = Nag(self.stock.denoiser, spec, self.first.negative_scale)
        return NagBranch(nag, self._condition(self.negatives))

    def _extra(self) -> Extra:
        return Extra(
            self.first.true_cfg_scale + self.stock.family.scale_offset,
            self.first.negative_scale,
            self.steering.direction(),
            self.first.look_steps,
            self.steering.steer if self.steering.look else None,
            self.stock.family.rescales,
        )


class Steering:
    """The negatives of one draw as looks change them."""

    def __init__(self, stock: Stock, drawings: Sequence[Drawing], look: Look | None) -> None:
        self.look = look
        self.changes: list[list[tuple[int, str | None]]] = [[] for _ in drawings]
        self._stock, self._drawings = stock, drawings
        self._negatives = [drawing.negative_prompt for drawing in drawings]

    def direction(self) -> ExtraDirection:
        """The denoiser's arguments under the negatives that there are, and whose they are."""
        pairs = zip(self._drawings, self._negatives, strict=True)
        acting = [(i, d.prompt, text) for i, (d, text) in enumerate(pairs) if text is not None]
        if not acting:
            return ExtraDirection([], {})
        rows, prompts, texts = zip(*acting, strict=True)
        condition = self._stock.condition(self._drawings[0], prompts, texts)
        return ExtraDirection(list(rows), condition)

    def steer(self, step: int, noisy: Tensor, guided: Tensor) -> ExtraDirection:
        """Look at the emerging pictures and renew their negatives."""
        assert self.look is not None
        images = self._stock.preview(self._drawings[0], step, noisy, guided)
        renewed = self.look(images, self._negatives)
        for changes, old, new in zip(self.changes, self._negatives, renewed, strict=True):
            if new != old:
                changes.append((step, new))
        self._negatives = list(renewed)
        return self.direction()

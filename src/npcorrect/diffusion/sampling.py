"""One draw on a diffusers pipeline: what it is called with, and what its hook is to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor, nn

from npcorrect.diffusion.base import Watch
from npcorrect.diffusion.calls import Arguments
from npcorrect.diffusion.families import FamilySpec
from npcorrect.diffusion.looks import Looks
from npcorrect.diffusion.receipt import Tally
from npcorrect.diffusion.restart import (
    Begin,
    Clean,
    Rewind,
    fresh_noise,
    restartable,
    starting_at,
)
from npcorrect.diffusion.rules import RULES, Predictions, Rule
from npcorrect.diffusion.schedulers import call_steps, clean, log_ratio, sigma
from npcorrect.diffusion.window import (
    Emerging,
    GuidanceSchedule,
    Negatives,
    Recorded,
    Recorder,
    attached,
    stacked,
    window,
)
from npcorrect.records import Drawing, Receipt

_GUIDED = 2.0
"""Any scale at which every pipeline makes its second branch; used where only that is wanted."""


class FirstCall(NamedTuple):
    """What a stock call gives the denoiser first, and the scheduler as the call set it."""

    arguments: Arguments
    noisy: Any
    scheduler: Any


@dataclass(frozen=True)
class Stock:
    """A diffusers pipeline of some family, and how it is called."""

    pipeline: Any
    family: FamilySpec
    max_sequence_length: int

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts: the pipeline's U-Net or transformer."""
        module: nn.Module = getattr(self.pipeline, self.family.denoiser)
        return module

    @property
    def restarts(self) -> bool:
        """Whether a draw can begin in the middle of the schedule."""
        return self.family.restarts and restartable(self.pipeline.scheduler)

    def draw(
        self,
        drawing: Drawing,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guided: bool,
        second: Sequence[str] | None,
        begin: Begin | None = None,
    ) -> tuple[list[Image], Tensor | None]:
        """The stock call; under guidance against ``second`` texts, None for the pipeline's own.

        Returns the pictures and, where the family restarts, their clean latents ``(B, ...)``, as
        the pipeline's loop holds them.
        """
        scale = drawing.true_cfg_scale if guided else self.family.least_scale
        last: list[Tensor] = []
        more: Arguments = {}
        if self.restarts:
            more["callback_on_step_end"] = _keeping(last)
        if begin is not None:
            more["latents"] = begin.latents
        with starting_at(self.pipeline.scheduler, begin.step if begin else 0):
            images: list[Image] = self._call(
                self.pipeline, drawing, prompts, seeds, scale, second, **more
            )
        return images, last[0] if last else None

    def condition(
        self, drawing: Drawing, prompts: Sequence[str], texts: Sequence[str] | None
    ) -> Arguments:
        """The denoiser's arguments under ``texts``, one row each, as the pipeline makes them.

        They are recorded from a stock call that ends before the denoiser computes anything. Texts
        stand in the negative's place, unless the family has none; ``prompts`` fill the other.
        """
        return self._recorded(drawing, prompts, texts).arguments

    def sigmas(self, drawing: Drawing) -> Tensor:
        """The noise levels by which the pipeline draws, ``(steps + 1,)``; the last is 0."""
        sigmas: Tensor = self._recorded(drawing, [drawing.prompt], None).scheduler.sigmas
        return sigmas

    def levels(self, drawing: Drawing) -> list[float]:
        """The noise level with which each step of the pipeline begins, falling.

        Raises:
            ModelError: see :func:`npcorrect.diffusion.schedulers.call_steps`.
        """
        scheduler = self._recorded(drawing, [drawing.prompt], None).scheduler
        steps = call_steps(scheduler, drawing.num_inference_steps)
        return [float(sigma(scheduler, steps.index(step))) for step in dict.fromkeys(steps)]

    def noise(self, drawing: Drawing, seeds: Sequence[int]) -> Tensor:
        """The noise with which a draw from each seed begins, ``(B, ...)``, of flow matching."""
        prompts, texts = [drawing.prompt] * len(seeds), [self.family.empty or ""] * len(seeds)
        noise: Tensor = stacked(self._recorded(drawing, prompts, texts, seeds).noisy)
        return noise

    def _recorded(
        self,
        drawing: Drawing,
        prompts: Sequence[str],
        texts: Sequence[str] | None,
        seeds: Sequence[int] | None = None,
    ) -> FirstCall:
        """What a stock call gives the denoiser first; nothing is computed."""
        second = not self.family.distilled
        recorder = Recorder(self.family.calls, len(prompts), second)
        aside = copy(self.pipeline)
        aside.scheduler = deepcopy(self.pipeline.scheduler)
        scale = _GUIDED if second else self.family.least_scale
        first = prompts if second or texts is None else texts
        with attached(self.denoiser, recorder), suppress(Recorded):
            chosen = seeds or [0] * len(prompts)
            self._call(aside, drawing, first, chosen, scale, texts if second else None)
        return FirstCall(recorder.arguments, recorder.noisy, aside.scheduler)

    def expected(self, call: int, noisy: Tensor, prediction: Tensor) -> Tensor:
        """The clean latents that a prediction at a call, from 0, stands for; all of one shape.

        ``noisy`` and ``prediction`` are ``(B, ...)``, in the denoiser's layout.
        """
        return clean(self.pipeline.scheduler, call, noisy, self.family.sign * prediction)

    def decoded(self, latents: Tensor, height: int, width: int) -> list[Image]:
        """Clean latents ``(B, ...)``, in the denoiser's layout, as ``B`` pictures."""
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
        **more: Any,
    ) -> Any:
        arguments = more | {
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
class Drawn:
    """Pictures, the evaluations that each took, and in what its negative acted, if there was one.

    ``clean`` is what another draw can begin with, if any.
    """

    images: list[Image]
    evaluations: list[int]
    receipts: list[Receipt | None]
    clean: Clean | None


@dataclass(frozen=True)
class Draw:
    """Pictures drawn together, with the call and the schedule that their rule makes of them.

    ``negatives`` is None where no negative acts, ``origin`` where they begin with noise alone.
    """

    stock: Stock
    drawings: Sequence[Drawing]
    negatives: Sequence[str] | None
    steering: Steering
    origin: Clean | None = None

    @property
    def first(self) -> Drawing:
        """The first drawing, for what all of them have in common."""
        return self.drawings[0]

    @property
    def prompts(self) -> list[str]:
        """The prompts of the batch's drawings, one each, in their order."""
        return [drawing.prompt for drawing in self.drawings]

    @property
    def rule(self) -> type[Rule]:
        """The rule that all of them are drawn by."""
        return RULES[self.first.rule]

    @property
    def replaced(self) -> bool:
        """Whether the negatives are what the pipeline is guided against."""
        return self.rule.replaces and self.negatives is not None

    @property
    def guided(self) -> bool:
        """Whether the pipeline computes a second branch, that is, guides at all."""
        family, rule = self.stock.family, self.rule
        standing = self.first.standing_negative is not None and rule.guided
        needed = self.replaced or rule.renewable or rule.beside or standing
        wanted = needed or family.guides_always
        return wanted and self.first.true_cfg_scale > family.least_scale

    @property
    def empties(self) -> list[str] | None:
        """The unconditional branch's text for each picture; None: the pipeline's own."""
        standing = self.first.standing_negative
        empty = self.stock.family.empty if standing is None else standing
        return None if empty is None else [empty] * len(self.drawings)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the batch's drawings, one each, in their order."""
        return [drawing.seed for drawing in self.drawings]

    def run(self, on_step: Callable[[int], None]) -> Drawn:
        """Draw, and go back as often as the looks demand it.

        Raises:
            ModelError: a negative acted in no step, or the scheduler's steps are not known.
        """
        tally = Tally(len(self.drawings))
        done = self.origin
        begin = self._begin(done, 0) if done else None
        evaluations = torch.zeros(len(self.drawings), dtype=torch.long)
        while True:
            self.steering.start = begin.step if begin else 0
            schedule = self.schedule()
            calls = self.stock.family.calls
            with window(self.stock.denoiser, calls, schedule, on_step, tally) as hook:
                images, latents = self._call(begin)
            evaluations += hook.evaluations
            if latents is not None:
                sigmas = done.sigmas if done else self.stock.pipeline.scheduler.sigmas
                done = Clean(latents, sigmas.clone())
            if images is not None:
                return Drawn(images, evaluations.tolist(), self._receipts(tally), done)
            assert done is not None
            begin = self._begin(done, self.steering.looks.rewinds)

    def _begin(self, clean: Clean, turn: int) -> Begin:
        """Clean latents noised to where a redrawing begins, for the ``turn``-th time, from 0.

        At first by the noise of the seed itself, so that what no negative speaks against stays;
        then by other noise, since the same would lead to the same picture.
        """
        noise = (
            fresh_noise(clean.latents[:1], self.seeds, turn)
            if turn
            else self.stock.noise(self.first, self.seeds)
        )
        return clean.noised(self.first.restart_step, noise)

    def _receipts(self, tally: Tally) -> list[Receipt | None]:
        if self.negatives is None:
            return [None] * len(self.drawings)
        tally.check()
        return [*tally.receipts()]

    def _call(self, begin: Begin | None) -> tuple[list[Image] | None, Tensor | None]:
        """The pictures by the stock call, None where they go back, and their clean latents."""
        second = self.negatives if self.replaced else self.empties
        try:
            return self.stock.draw(
                self.first,
                self.prompts,
                self.seeds,
                self.guided,
                second if self.guided else None,
                begin,
            )
        except Rewind as rewind:
            return None, rewind.clean

    def schedule(self) -> GuidanceSchedule:
        """What the hook is to do in the pipeline's next call."""
        steps, begin = self.first.num_inference_steps, self.steering.start
        common = GuidanceSchedule(
            len(self.drawings),
            self.guided,
            first=self.steering.looks.first,
            start=begin,
            steps=lambda: call_steps(self.stock.pipeline.scheduler, steps, begin),
        )
        first, family = self.first, self.stock.family
        rule = self.rule(first.true_cfg_scale + family.scale_offset, first.negative_scale)
        if self.rule.attends and first.standing_negative is not None and not self.guided:
            common = replace(
                common, rule=rule, window=(0, 0), attention=family.attention(first.rule),
                standing=self.steering.standing(),
            )  # fmt: skip
        if self.negatives is None:
            return common
        acting = replace(
            common,
            rule=rule,
            window=first.window,
            rescales=family.rescales,
        )
        if not self.rule.replaces:
            return replace(
                acting,
                negatives=self.steering.negatives(),
                attention=family.attention(first.rule),
                evidence=self.steering.evidence if self.rule.learns else None,
                look_steps=first.look_steps,
                steer=self.steering.steer if self.steering.looks.wanted else None,
            )
        if not family.guides_always and first.standing_negative is None:
            return replace(acting, second="negative", alone=True)
        whole = first.window == (0, steps)
        empty = None if whole else self.stock.condition(first, self.prompts, self.empties)
        return replace(acting, second="negative", empty=empty)


class Steering:
    """The negatives of one draw as its looks change them.

    ``start`` is the step with which the pipeline's present call begins.
    """

    def __init__(
        self, stock: Stock, drawings: Sequence[Drawing], watch: Watch, first: int = 0
    ) -> None:
        self.looks = Looks(drawings, watch.look, first)
        self.start = 0
        self._stock, self._drawings = stock, drawings

    def negatives(self) -> Negatives:
        """The denoiser's arguments under the negatives that there are, and whose they are."""
        return self._conditioned(self.looks.negatives)

    def standing(self) -> Negatives:
        """The same of the standing negatives, for steps in which no other acts."""
        return self._conditioned([drawing.standing_negative for drawing in self._drawings])

    def _conditioned(self, texts: Sequence[str | None]) -> Negatives:
        pairs = zip(self._drawings, texts, strict=True)
        acting = [(i, d.prompt, text) for i, (d, text) in enumerate(pairs) if text is not None]
        if not acting:
            return Negatives([], {})
        rows, prompts, negatives = zip(*acting, strict=True)
        first, spec = self._drawings[0], self._stock.family.attention(self._drawings[0].rule)
        if spec is None:
            return Negatives(list(rows), self._stock.condition(first, prompts, negatives))
        return Negatives(list(rows), spec.condition(self._stock, first, prompts, negatives))

    def steer(self, emerging: Emerging) -> Negatives:
        """Look at the emerging pictures and renew their negatives.

        Raises:
            Rewind: this was the last look, and the pictures are wrong and may go back.
        """
        first = self._drawings[0]
        clean = self._stock.expected(emerging.call, emerging.noisy, emerging.guided)
        images = self._stock.decoded(clean, first.height, first.width)
        if self.looks.take(emerging.step, images, emerging.acts):
            raise Rewind(clean)
        return self.negatives()

    def evidence(
        self, call: int, noisy: Tensor, guided: Tensor, predictions: Predictions
    ) -> Tensor:
        """How much likelier a step is under the negative than under the empty text, ``(B,)``.

        See :func:`npcorrect.diffusion.schedulers.log_ratio`; tensors are ``(B, ...)``.
        """
        made, first, second = (
            self._stock.expected(call, noisy, prediction)
            for prediction in (guided, predictions["negative"], predictions["empty"])
        )
        return log_ratio(self._stock.pipeline.scheduler, call, made, first, second)


def _keeping(last: list[Tensor]) -> Callable[..., Any]:
    """A pipeline's callback that keeps the latents of the step before in ``last``."""

    def keep(_pipeline: Any, _step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        last[:] = [values["latents"]]
        return values

    return keep

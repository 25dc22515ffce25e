"""The wrapper around a diffusers pipeline: draws, and encodes text for the ranking."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from PIL.Image import Image

from npcorrect import plan
from npcorrect.diffusion.base import (
    UNWATCHED,
    Reading,
    TokenStates,
    Watch,
    drawn_alone,
    shared,
)
from npcorrect.diffusion.families import FamilySpec
from npcorrect.diffusion.memory import out_of_memory, release
from npcorrect.diffusion.restart import Clean
from npcorrect.diffusion.rules import RULES
from npcorrect.diffusion.sampling import Draw, Steering, Stock
from npcorrect.diffusion.schedulers import prediction
from npcorrect.errors import ModelError, PromptError
from npcorrect.records import Drawing, Generation, Origin, Request

_log = logging.getLogger(__name__)


class PipelineModel:
    """An :class:`ImageModel` and a :class:`TextEncoder` around a pipeline of some family."""

    def __init__(
        self, name: str, pipeline: Any, family: FamilySpec, defaults: plan.Defaults | None = None
    ) -> None:
        self.name, self.pipeline = name, pipeline
        self.defaults = defaults or family.defaults
        self.stock = Stock(pipeline, family, self.defaults.max_sequence_length)
        self.family = replace(family, restarts=self.stock.restarts)
        self._fits: int | None = None

    def plan(self, request: Request) -> plan.Plan:
        """The plan of a request with the family's defaults; see :func:`npcorrect.plan.plan`.

        Raises:
            InputError: the model cannot do what was asked, or a negative could have no effect.
        """
        made = plan.plan(request, self.family, self.defaults, self.stock.levels)
        if made.looks or RULES[made.template.rule].learns:
            prediction(self.pipeline.scheduler)
        self.check_text(request.prompt, prompt=True)
        self.check_text(request.negative_prompt or "")
        return made

    def check_text(self, text: str, prompt: bool = False) -> None:
        """Refuse a text that is longer than the model reads.

        Raises:
            PromptError: it has more tokens than ``max_sequence_length``.
            ModelError: the pipeline was loaded without its text encoders.
        """
        self._require_encoders()
        limit = self.defaults.max_sequence_length
        length = self.family.text.count(self.pipeline, text, prompt)
        if length > limit:
            raise PromptError(
                f"The text {text[:60]!r} has {length} tokens and the model {self.name!r} reads "
                f"{limit}; shorten it."
            )

    def _require_encoders(self) -> None:
        for part in sum(self.family.text.encoders, ()):
            if getattr(self.pipeline, part, None) is None:
                raise ModelError(
                    f"The model {self.name!r} was loaded without its {part}, which npc needs to "
                    "measure and rank texts; load it whole."
                )

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """Draw pictures together; see :class:`ImageModel`.

        Where memory runs out, the batch is halved, now and from now on, and a warning is logged.

        Raises:
            ModelError: memory is too small for a single picture, an origin is another model's, the
                scheduler's steps are not known, or a negative acted in no step.
        """
        if drawings:
            shared(drawings)
        generations: list[Generation] = []
        while len(generations) < len(drawings):
            done = len(generations)
            rest = drawings[done:]
            size = min(len(rest), self._fits or len(rest), 1 if self._alone(rest[0]) else len(rest))
            try:
                generations += self._draw_together(rest[:size], watch, done)
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            release()
            self._fits = self._halved(size)
        return generations

    def enter(self) -> None:
        """Do nothing: what is offloaded comes when it is needed; see :mod:`npcorrect.card`."""

    def leave(self) -> None:
        """Bring what is offloaded to main memory, also in the middle of a drawing."""
        for hook in getattr(self.pipeline, "_all_hooks", ()):
            hook.offload()
        release()

    def _alone(self, drawing: Drawing) -> bool:
        """Whether a picture is drawn by itself."""
        return self.family.single or drawn_alone(drawing)

    def _halved(self, size: int) -> int:
        if size == 1:
            raise ModelError(
                f"Memory ran out while {self.name!r} drew one picture; give a smaller --size, or "
                "try --offload model, --vae-tiling, --quantize 4bit or --dtype bfloat16."
            )
        half = size // 2
        _log.warning("Memory ran out at %d pictures together; drawing %d at a time.", size, half)
        return half

    @torch.inference_mode()
    def _draw_together(
        self, drawings: Sequence[Drawing], watch: Watch, place: int
    ) -> list[Generation]:
        watch.begin(place)
        started = perf_counter()
        first, negatives = shared(drawings)
        steering = Steering(self.stock, drawings, watch, place)
        looks = steering.looks
        acting = negatives if first.window[0] < first.window[1] else None
        begin = self._begin(drawings)
        draw = Draw(self.stock, drawings, acting, steering, begin)

        def report(step: int) -> None:
            watch.step(step, first.num_inference_steps)

        drawn = draw.run(report)
        seconds = (perf_counter() - started) / len(drawings)
        return [
            Generation(
                image=image,
                drawing=drawing,
                evaluations=drawn.evaluations[row],
                seconds=seconds,
                steering=tuple(looks.changes[row]),
                start_step=first.restart_step if begin is not None or looks.rewinds else 0,
                rewinds=looks.rewinds,
                looks=looks.count,
                answers=tuple(looks.answers[row]),
                receipt=drawn.receipts[row],
                origin=drawn.clean.origin(row, self.name) if drawn.clean else None,
            )
            for row, (drawing, image) in enumerate(zip(drawings, drawn.images, strict=True))
        ]

    def _begin(self, drawings: Sequence[Drawing]) -> Clean | None:
        """The clean latents that the drawings begin with, noised; None: noise alone.

        Raises:
            ModelError: an origin is another model's, or drawn by another schedule.
        """
        origins = [drawing.origin for drawing in drawings if drawing.origin is not None]
        if not origins:
            return None
        steps = drawings[0].num_inference_steps
        for origin in origins:
            if len(origin.sigmas) != steps + 1:
                raise ModelError(
                    f"The picture to begin with was drawn in {len(origin.sigmas) - 1} steps and "
                    f"this one has {steps}; give the same number, or a strength of 1."
                )
        denoiser: Any = self.stock.denoiser
        clean = Clean.of(origins, self.name, self.pipeline._execution_device, denoiser.dtype)
        return clean if drawings[0].restart_step else None

    @torch.inference_mode()
    def origin(self, image: Image, drawing: Drawing) -> Origin | None:
        """The clean latents of a picture that exists; see :class:`ImageModel`."""
        encode = self.family.encode
        if encode is None or not self.stock.restarts:
            return None
        sized = image.convert("RGB").resize((drawing.width, drawing.height))
        pixels = self.pipeline.image_processor.preprocess(sized)
        latents = encode(self.pipeline, pixels.to(self.pipeline._execution_device))
        return Clean(latents, self.stock.sigmas(drawing)).origin(0, self.name)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """Token states of the family's own text encoders; see :class:`TextEncoder`.

        Raises:
            PromptError: a text is longer than the encoder reads.
        """
        if not texts:
            return []
        for text in texts:
            self.check_text(text)
        length = self.defaults.max_sequence_length
        return self.family.text.read(reading).encode(self.pipeline, texts, length)

"""The wrapper around a diffusers pipeline: draws, and encodes text for the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL.Image import Image
from torch import Tensor

from npcorrect.diffusion.base import Drawing, Look, OnStep, TokenStates
from npcorrect.diffusion.window import Extra, ExtraDirection, window
from npcorrect.errors import ModelError, PromptError, SettingsError
from npcorrect.types import Generation, Request, Rule

T = TypeVar("T")

PAPER_WINDOW = 3 / 50
"""The released schedule: the negative acts in the first 3 of 50 steps."""
FIRST_LOOK = 1 / 6
"""Share of the steps before the first look; earlier, an emerging picture shows too little."""


@dataclass(frozen=True)
class Defaults:
    """What a model does where the request is silent. ``sizes`` are the sides that it can draw.

    ``window``, ``looks`` and ``reseed`` are those of rule ``extra``; the paper's rule has its own
    window, looks at finished pictures only and keeps the seed.
    """

    num_inference_steps: int
    true_cfg_scale: float
    negative_scale: float
    rule: Rule
    window: float
    looks: int
    reseed: bool
    sizes: tuple[int, ...]
    max_sequence_length: int


class PipelineModel:
    """An :class:`ImageModel` and a :class:`TextEncoder` around a ``FluxPipeline``."""

    def __init__(self, name: str, pipeline: FluxPipeline, defaults: Defaults) -> None:
        self.name, self.pipeline, self.defaults = name, pipeline, defaults

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        """Fill in the defaults and refuse what cannot work; see :class:`ImageModel`."""
        own = self.defaults
        steps = _or(request.num_inference_steps, own.num_inference_steps)
        if steps < 1:
            raise SettingsError(f"The number of steps is {steps}; give at least 1.")
        rule = request.rule or own.rule
        faithful = rule == "paper"
        share = max(PAPER_WINDOW, 1 / steps) if faithful else own.window
        looks = _or(request.looks, 0 if faithful else min(own.looks, steps - 1))
        if faithful and looks:
            raise SettingsError(
                f"Rule 'paper' keeps one negative and {looks} looks would renew it; "
                "give 0 looks, or rule 'extra'."
            )
        reseed = _or(request.reseed, own.reseed and not faithful)
        drawing = Drawing(
            request.prompt,
            request.seed + (attempt if reseed else 0),
            negative_prompt,
            steps,
            _or(request.true_cfg_scale, own.true_cfg_scale),
            _or(request.negative_scale, own.negative_scale),
            rule,
            window_steps(_or(request.window, share), steps),
            look_steps(looks, steps),
            _or(request.height, own.sizes[0]),
            _or(request.width, own.sizes[0]),
        )
        self._refuse_what_cannot_act(drawing)
        self._check_lengths(drawing)
        return drawing

    def _refuse_what_cannot_act(self, drawing: Drawing) -> None:
        if not 0 <= drawing.seed < 2**63:
            raise SettingsError(f"The seed is {drawing.seed}; give a number from 0 to 2**63 - 1.")
        for scale in (drawing.true_cfg_scale, drawing.negative_scale):
            if not isfinite(scale):
                raise SettingsError(f"A scale is {scale}; give a finite number.")
        for side in (drawing.height, drawing.width):
            if side not in self.defaults.sizes:
                sizes = ", ".join(map(str, self.defaults.sizes))
                raise ModelError(
                    f"The model {self.name!r} cannot draw {side} pixels; its sides are {sizes}."
                )
        if drawing.true_cfg_scale <= 1 and (
            drawing.rule == "extra" or drawing.negative_prompt is not None
        ):
            raise SettingsError(
                f"At a true CFG scale of {drawing.true_cfg_scale:g} a negative prompt has no "
                "effect; give a scale above 1."
            )
        if drawing.rule == "extra" and drawing.negative_scale <= 0:
            raise SettingsError(
                f"At a negative scale of {drawing.negative_scale:g} a negative prompt has no "
                "effect; give a scale above 0."
            )

    def _check_lengths(self, drawing: Drawing) -> None:
        if not drawing.prompt.strip():
            raise PromptError("The prompt is empty; say what to draw.")
        for text in (drawing.prompt, drawing.negative_prompt or ""):
            self._check_length(text)

    def _check_length(self, text: str) -> None:
        limit = self.defaults.max_sequence_length
        length = len(self.pipeline.tokenizer_2(text).input_ids)
        if length > limit:
            raise PromptError(
                f"The text {text[:60]!r} has {length} tokens and the model {self.name!r} reads "
                f"{limit}; shorten it."
            )

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
    ) -> list[Generation]:
        """Draw pictures together; see :class:`ImageModel`."""
        if not drawings:
            return []
        started = perf_counter()
        first, negatives = _shared(drawings)
        with_empty = first.rule == "extra"
        second = [""] * len(drawings) if with_empty else negatives
        plain = with_empty and negatives is None
        steps = first.num_inference_steps if plain else first.window_steps
        steering = _Steering(self, drawings, look)
        with torch.inference_mode():
            extra = steering.extra() if with_empty and negatives is not None else None
            guided = second is not None
            with window(self.pipeline.transformer, steps, len(drawings), guided, extra) as hook:
                images = self.pipeline(
                    [drawing.prompt for drawing in drawings],
                    negative_prompt=second,
                    true_cfg_scale=1.0 if second is None else first.true_cfg_scale,
                    height=first.height,
                    width=first.width,
                    num_inference_steps=first.num_inference_steps,
                    max_sequence_length=self.defaults.max_sequence_length,
                    generator=[torch.Generator().manual_seed(d.seed) for d in drawings],
                    callback_on_step_end=_callback(on_step, first.num_inference_steps),
                ).images
        seconds = (perf_counter() - started) / len(drawings)
        return [
            Generation(
                image,
                drawing.prompt,
                drawing.negative_prompt,
                drawing.seed,
                drawing.num_inference_steps,
                drawing.true_cfg_scale,
                drawing.negative_scale,
                drawing.rule,
                0 if negatives is None else drawing.window_steps,
                evaluations,
                seconds,
                tuple(changes),
            )
            for drawing, image, evaluations, changes in zip(
                drawings, images, hook.evaluations.tolist(), steering.changes, strict=True
            )
        ]

    def preview(self, latents: Tensor, height: int, width: int) -> list[Image]:
        """Decode packed latents, ``(B, tokens, channels)``, to pictures."""
        pipeline = self.pipeline
        unpacked = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
        config = pipeline.vae.config
        scaled = unpacked / config.scaling_factor + config.shift_factor
        decoded = pipeline.vae.decode(scaled.to(pipeline.vae.dtype), return_dict=False)[0]
        images: list[Image] = pipeline.image_processor.postprocess(decoded)
        return images

    def direction(self, negatives: Sequence[str | None]) -> ExtraDirection:
        """The embeddings of the negatives that there are, and whose they are."""
        rows = [place for place, negative in enumerate(negatives) if negative is not None]
        embeddings = {}
        if rows:
            states, pooled, ids = self.pipeline.encode_prompt(
                [negatives[place] for place in rows],
                None,
                max_sequence_length=self.defaults.max_sequence_length,
            )
            embeddings = {
                "encoder_hidden_states": states,
                "pooled_projections": pooled,
                "txt_ids": ids,
            }
        return ExtraDirection(torch.tensor(rows, dtype=torch.long), embeddings)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[TokenStates]:
        """Token states of the T5 encoder; see :class:`TextEncoder`.

        Raises:
            PromptError: a text is longer than the encoder reads.
        """
        if not texts:
            return []
        for text in texts:
            self._check_length(text)
        encoder, tokenizer = self.pipeline.text_encoder_2, self.pipeline.tokenizer_2
        length = self.defaults.max_sequence_length
        batch = tokenizer(
            list(texts),
            padding="max_length",
            max_length=length,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        states = encoder(batch.input_ids.to(encoder.device)).last_hidden_state
        states_np = states.float().cpu().numpy()
        kept = batch.attention_mask.bool().numpy()
        special = batch.special_tokens_mask.bool().numpy()
        return [
            TokenStates(np.ascontiguousarray(s[k]), m[k])
            for s, k, m in zip(states_np, kept, special, strict=True)
        ]


class _Steering:
    """The negatives of one draw as looks change them."""

    def __init__(
        self, model: PipelineModel, drawings: Sequence[Drawing], look: Look | None
    ) -> None:
        self._model, self._drawing, self._look = model, drawings[0], look
        self._negatives = [drawing.negative_prompt for drawing in drawings]
        self.changes: list[list[tuple[int, str | None]]] = [[] for _ in drawings]

    def extra(self) -> Extra:
        """What the hook needs to know."""
        drawing = self._drawing
        direction = self._model.direction(self._negatives)
        return Extra(
            drawing.true_cfg_scale,
            drawing.negative_scale,
            direction,
            drawing.look_steps,
            self._steer if self._look else None,
        )

    def _steer(self, step: int, latents: Tensor) -> ExtraDirection:
        assert self._look is not None
        images = self._model.preview(latents, self._drawing.height, self._drawing.width)
        renewed = self._look(images, self._negatives)
        for changes, old, new in zip(self.changes, self._negatives, renewed, strict=True):
            if new != old:
                changes.append((step, new))
        self._negatives = list(renewed)
        return self._model.direction(self._negatives)


def _shared(drawings: Sequence[Drawing]) -> tuple[Drawing, list[str] | None]:
    """What drawings have in common, as the first of them, and their negatives, or None."""
    alike = {replace(d, prompt="", seed=0, negative_prompt=None) for d in drawings}
    negatives = [d.negative_prompt for d in drawings if d.negative_prompt is not None]
    if len(alike) != 1 or len(negatives) not in (0, len(drawings)):
        raise ValueError("drawings of one batch differ in more than prompt, seed and negative")
    return drawings[0], negatives if negatives else None


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def window_steps(value: float, steps: int) -> int:
    """Steps of a window given as a number of steps (``int``) or a share of them (``float``).

    Raises:
        SettingsError: the window is longer than the schedule, or negative.
    """
    limit = steps if isinstance(value, int) else 1
    if not 0 <= value <= limit:
        raise SettingsError(
            f"The window is {value}; give steps from 0 to {steps}, or a share from 0.0 to 1.0."
        )
    return value if isinstance(value, int) else round(value * steps)


def look_steps(looks: int, steps: int) -> tuple[int, ...]:
    """The steps, from 0, before which to look: ``looks`` of them, evenly from FIRST_LOOK on.

    Raises:
        SettingsError: there are fewer steps to look between, or ``looks`` is negative.
    """
    if not 0 <= looks < steps:
        raise SettingsError(f"The number of looks is {looks}; give 0 to {steps - 1}.")
    shares = (FIRST_LOOK + (1 - FIRST_LOOK) * look / looks for look in range(looks))
    return tuple(sorted({round(steps * share) for share in shares}))


def _callback(on_step: OnStep | None, total: int) -> Any:
    if on_step is None:
        return None

    def report(_pipeline: Any, step: int, _time: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1, total)
        return kwargs

    return report

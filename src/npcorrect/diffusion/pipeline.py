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

from npcorrect.diffusion.base import Drawing, OnStep, TokenStates
from npcorrect.diffusion.window import ExtraDirection, window
from npcorrect.errors import ModelError, PromptError, SettingsError
from npcorrect.types import Generation, Request, Rule

T = TypeVar("T")

PAPER_WINDOW = 3 / 50
"""The released schedule: the negative acts in the first 3 of 50 steps."""


@dataclass(frozen=True)
class Defaults:
    """What a model does where the request is silent. ``sizes`` are the sides that it can draw."""

    num_inference_steps: int
    true_cfg_scale: float
    negative_scale: float
    rule: Rule
    window: float
    sizes: tuple[int, ...]
    max_sequence_length: int


class PipelineModel:
    """An :class:`ImageModel` and a :class:`TextEncoder` around a ``FluxPipeline``."""

    def __init__(self, name: str, pipeline: FluxPipeline, defaults: Defaults) -> None:
        self.name, self.pipeline, self.defaults = name, pipeline, defaults

    def resolve(self, request: Request, negative_prompt: str | None = None) -> Drawing:
        """Fill in the defaults and refuse what cannot work; see :class:`ImageModel`."""
        own = self.defaults
        steps = _or(request.num_inference_steps, own.num_inference_steps)
        if steps < 1:
            raise SettingsError(f"The number of steps is {steps}; give at least 1.")
        rule = request.rule or own.rule
        share = max(PAPER_WINDOW, 1 / steps) if rule == "paper" else own.window
        drawing = Drawing(
            request.prompt,
            request.seed,
            negative_prompt,
            steps,
            _or(request.true_cfg_scale, own.true_cfg_scale),
            _or(request.negative_scale, own.negative_scale),
            rule,
            window_steps(_or(request.window, share), steps),
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

    def draw(self, drawings: Sequence[Drawing], on_step: OnStep | None = None) -> list[Generation]:
        """Draw pictures together; see :class:`ImageModel`."""
        if not drawings:
            return []
        started = perf_counter()
        first, negatives = _shared(drawings)
        extra = first.rule == "extra"
        second = [""] * len(drawings) if extra else negatives
        plain = extra and negatives is None
        steps = first.num_inference_steps if plain else first.window_steps
        with torch.inference_mode():
            direction = (
                self._direction(first, negatives) if extra and negatives is not None else None
            )
            with window(self.pipeline.transformer, steps, second is not None, direction) as hook:
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
                hook.evaluations,
                seconds,
            )
            for drawing, image in zip(drawings, images, strict=True)
        ]

    def _direction(self, drawing: Drawing, negatives: list[str]) -> ExtraDirection:
        states, pooled, ids = self.pipeline.encode_prompt(
            negatives, None, max_sequence_length=self.defaults.max_sequence_length
        )
        embeddings = {"encoder_hidden_states": states, "pooled_projections": pooled, "txt_ids": ids}
        return ExtraDirection(embeddings, drawing.true_cfg_scale, drawing.negative_scale)

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


def _callback(on_step: OnStep | None, total: int) -> Any:
    if on_step is None:
        return None

    def report(_pipeline: Any, step: int, _time: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1, total)
        return kwargs

    return report

"""The wrapper around a diffusers pipeline: draws, and encodes text for the ranking."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, isfinite
from time import perf_counter
from typing import Any, TypeVar

import torch

from npcorrect.diffusion.base import Drawing, Look, OnStep, Reading, TokenStates
from npcorrect.diffusion.families import FLUX_DEV, PAPER_WINDOW, Defaults, FamilySpec
from npcorrect.diffusion.memory import out_of_memory, release
from npcorrect.diffusion.restart import Finished
from npcorrect.diffusion.sampling import BESIDE, Draw, Steering, Stock
from npcorrect.errors import ModelError, PromptError, SettingsError
from npcorrect.records import Generation, Request, Rule

T = TypeVar("T")
_log = logging.getLogger(__name__)

LAST_LOOK = 2 / 3
"""Share of the steps before the last look; later, what a picture shows hardly changes any more."""


class PipelineModel:
    """An :class:`ImageModel` and a :class:`TextEncoder` around a pipeline of some family."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        defaults: Defaults | None = None,
        family: FamilySpec = FLUX_DEV,
    ) -> None:
        self.name, self.pipeline, self.family = name, pipeline, family
        self.defaults = defaults or family.defaults
        self.stock = Stock(pipeline, family, self.defaults.max_sequence_length)
        self._fits: int | None = None

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        """Fill in the defaults and refuse what cannot work; see :class:`ImageModel`."""
        own = self.defaults
        steps = _or(request.num_inference_steps, own.num_inference_steps)
        if steps < 1:
            raise SettingsError(f"The number of steps is {steps}; give at least 1.")
        rule = request.rule or own.rule
        steered = rule in BESIDE
        share = {"paper": max(PAPER_WINDOW, 1 / steps), "nag": 1.0}.get(rule, own.window)
        again = steered and self.stock.restarts
        start = start_step(_or(request.strength, own.strength if again else 1.0), steps)
        room = max(round(LAST_LOOK * steps) - start, 0)
        looks = _or(request.looks, min(own.looks, room) if steered else 0)
        rewinds = _or(request.rewinds, own.rewinds if again and looks else 0)
        self._check_looks(rule, looks, rewinds, start)
        reseed = _or(request.reseed, own.reseed and steered)
        drawing = Drawing(
            request.prompt,
            request.seed + (attempt if reseed else 0),
            negative_prompt,
            steps,
            _or(request.true_cfg_scale, own.true_cfg_scale),
            _or(request.negative_scale, own.nag_scale if rule == "nag" else own.negative_scale),
            rule,
            window_steps(_or(request.window, share), steps),
            look_steps(looks, steps, start),
            _or(request.height, own.sizes[0]),
            _or(request.width, own.sizes[0]),
            start,
            rewinds,
        )
        self._check_numbers(drawing)
        self._check_sides(drawing)
        self._refuse_what_cannot_act(drawing)
        self._check_lengths(drawing)
        return drawing

    def _check_looks(self, rule: Rule, looks: int, rewinds: int, start: int) -> None:
        if looks and rule not in BESIDE:
            raise SettingsError(
                f"Rule {rule!r} keeps one negative and {looks} looks would renew it; "
                f"give 0 looks, or rule {' or '.join(map(repr, BESIDE))}."
            )
        if rewinds < 0 or (rewinds and not looks):
            raise SettingsError(
                f"The number of rewinds is {rewinds} with {looks} looks; give 0, or more of both: "
                "only a look can send a picture back."
            )
        if (start or rewinds) and not self.stock.restarts:
            raise SettingsError(
                f"{self.family.title} cannot begin with a noised picture here; give a strength of "
                "1 and 0 rewinds."
            )

    def _check_numbers(self, drawing: Drawing) -> None:
        if not 0 <= drawing.seed < 2**63:
            raise SettingsError(f"The seed is {drawing.seed}; give a number from 0 to 2**63 - 1.")
        for scale in (drawing.true_cfg_scale, drawing.negative_scale):
            if not isfinite(scale):
                raise SettingsError(f"A scale is {scale}; give a finite number.")

    def _check_sides(self, drawing: Drawing) -> None:
        own = self.defaults
        for side in (drawing.height, drawing.width):
            if side in own.sizes or (own.multiple and side > 0 and side % own.multiple == 0):
                continue
            sizes = ", ".join(map(str, own.sizes))
            known = f"multiples of {own.multiple}" if own.multiple else sizes
            raise ModelError(
                f"The model {self.name!r} cannot draw {side} pixels; its sides are {known}."
            )

    def _refuse_what_cannot_act(self, drawing: Drawing) -> None:
        family, rule = self.family, drawing.rule
        if rule not in family.rules:
            reason = family.distilled or f"NAG is not written for {family.title}"
            raise SettingsError(
                f"{reason}, so by rule {rule!r} a negative prompt has no effect; "
                f"use rule {' or '.join(map(repr, family.rules))}."
            )
        negative = rule == "paper" and drawing.negative_prompt is not None
        if drawing.window_steps and drawing.window_steps <= drawing.start_step and negative:
            raise SettingsError(
                f"A negative in the first {drawing.window_steps} steps has no effect on a "
                f"redrawing that begins at step {drawing.start_step + 1}; give a strength of 1, or "
                "a longer window."
            )
        if (rule in BESIDE or negative) and not family.guides(drawing.true_cfg_scale):
            raise SettingsError(
                f"At a true CFG scale of {drawing.true_cfg_scale:g} a negative prompt has no "
                f"effect on {family.title}; give a scale above {1 - family.scale_offset:g}."
            )
        if rule != "paper" and drawing.negative_scale <= 0:
            raise SettingsError(
                f"At a negative scale of {drawing.negative_scale:g} a negative prompt has no "
                "effect; give a scale above 0."
            )

    def _check_lengths(self, drawing: Drawing) -> None:
        if not drawing.prompt.strip():
            raise PromptError("The prompt is empty; say what to draw.")
        self._check_length(drawing.prompt, prompt=True)
        self._check_length(drawing.negative_prompt or "")

    def _check_length(self, text: str, prompt: bool = False) -> None:
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

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        """Draw pictures together; see :class:`ImageModel`.

        Where memory runs out, the batch is halved, now and from now on, and a warning is logged.

        Raises:
            ModelError: memory is too small for a single picture.
        """
        if drawings:
            _shared(drawings)
        generations: list[Generation] = []
        while len(generations) < len(drawings):
            done = len(generations)
            rest = drawings[done:]
            size = min(len(rest), self._fits or len(rest), 1 if self._alone(rest[0]) else len(rest))
            try:
                generations += self._draw_together(rest[:size], on_step, look, origin, done)
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            release()
            self._fits = self._halved(size)
        return generations

    def _alone(self, drawing: Drawing) -> bool:
        """Whether a picture is drawn by itself: its steps depend on what its looks see."""
        return self.family.single or drawing.rule == "turns" or drawing.rewinds > 0

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
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None,
        look: Look | None,
        origin: Generation | None,
        place: int,
    ) -> list[Generation]:
        started = perf_counter()
        first, negatives = _shared(drawings)
        steering = Steering(self.stock, drawings, look, place)
        acting = negatives if first.window_steps else None
        begun = origin.latents if origin is not None and first.start_step else None
        begin = begun if isinstance(begun, Finished) else None
        draw = Draw(self.stock, drawings, acting, steering, begin)

        def report(step: int) -> None:
            if on_step is not None:
                on_step(step, steering.start + len(self.pipeline.scheduler.timesteps))

        drawn = draw.run(report)
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
                first.start_step if begin is not None or steering.rewinds else 0,
                steering.rewinds,
                drawn.finished.row(row) if drawn.finished else None,
            )
            for row, (drawing, image, evaluations, changes) in enumerate(
                zip(drawings, drawn.images, drawn.evaluations, steering.changes, strict=True)
            )
        ]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """Token states of the family's own text encoders; see :class:`TextEncoder`.

        Raises:
            PromptError: a text is longer than the encoder reads.
        """
        if not texts:
            return []
        for text in texts:
            self._check_length(text)
        length = self.defaults.max_sequence_length
        return self.family.text.read(reading).encode(self.pipeline, texts, length)


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


def start_step(strength: float, steps: int) -> int:
    """The step, from 0, with which a redrawing of this strength begins, as diffusers counts it.

    Raises:
        SettingsError: the strength is not above 0 and at most 1.
    """
    if not 0 < strength <= 1:
        raise SettingsError(f"The strength is {strength}; give a share above 0, up to 1.")
    return steps - max(round(steps * strength), 1)


def look_steps(looks: int, steps: int, start: int = 0) -> tuple[int, ...]:
    """The steps, from 0, before which to look: evenly after ``start``, up to LAST_LOOK.

    Raises:
        SettingsError: there are fewer steps to look between, or ``looks`` is negative.
    """
    room = max(round(LAST_LOOK * steps) - start, 0)
    if not 0 <= looks <= room:
        raise SettingsError(f"The number of looks is {looks}; give 0 to {room}.")
    return tuple(start + ceil(room * (look + 1) / looks) for look in range(looks))

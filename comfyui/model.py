"""An image model of npcorrect around a MODEL, a CLIP and a VAE of ComfyUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import comfy.sample
import comfy.samplers
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from npcorrect import plan
from npcorrect.diffusion.base import UNWATCHED, Reading, TokenStates, Watch
from npcorrect.diffusion.looks import Looks
from npcorrect.diffusion.restart import Clean, Rewind
from npcorrect.errors import SettingsError
from npcorrect.records import Drawing, Generation, Origin, Receipt, Request

from .family import ANY, ATTACHMENT, Row
from .guidance import Schedule
from .guider import NegativeGuider
from .text import ClipText


@dataclass(frozen=True)
class Sampling:
    """How ComfyUI draws: a sampler by name, and a scheduler's noise levels or given ones."""

    sampler: str
    scheduler: str
    sigmas: Tensor | None = None

    def levels(self, model: Any, steps: int) -> Tensor:
        """The noise levels of a schedule, one more than steps, as a KSampler makes them."""
        if self.sigmas is not None:
            return self.sigmas
        made = comfy.samplers.KSampler(
            model, steps, model.load_device, self.sampler, self.scheduler, 1.0, model.model_options
        )
        levels: Tensor = made.sigmas.cpu()
        return levels


def row_of(model: Any) -> Row:
    """The row that a MODEL carries, or that of all the others."""
    return model.get_attachment(ATTACHMENT) or ANY


class PatcherModel:
    """An :class:`~npcorrect.diffusion.base.ImageModel` and a text encoder.

    ``latent`` is one empty latent of the size to draw. ``positive`` is the prompt's conditioning
    where another node has made it; else the CLIP does, as for all other texts. Pictures are drawn
    one by one.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        vae: Any,
        latent: Tensor,
        sampling: Sampling,
        row: Row,
        positive: Any = None,
    ) -> None:
        self.row, self.name = row, row.name
        self._model, self._vae, self._latent, self._sampling = model, vae, latent, sampling
        self._positive = positive
        self._text = ClipText(clip, row.defaults.max_sequence_length)

    def plan(self, request: Request) -> plan.Plan:
        """The request with the row's defaults, at the latent's size."""
        scale = self._vae.spacial_compression_decode()
        height, width = (side * scale for side in self._latent.shape[-2:])
        sized = replace(request, height=height, width=width)
        made = plan.plan(sized, self.row, self.row.defaults, self._levels)
        self.check_text(request.prompt)
        self.check_text(request.negative_prompt or "")
        return made

    def check_text(self, text: str) -> None:
        """Raises PromptError where a text is longer than the model reads."""
        self._text.check(text)

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """The token states of each text, in the texts' order, as the CLIP makes them."""
        return self._text.encode(texts, reading)

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """Draw pictures one after the other; see :class:`~npcorrect.diffusion.base.ImageModel`.

        Raises:
            ModelError: an origin is another model's.
        """
        return [self._drawn(drawing, watch, place) for place, drawing in enumerate(drawings)]

    def _drawn(self, drawing: Drawing, watch: Watch, place: int) -> Generation:
        watch.begin(place)
        started = perf_counter()
        draw = _Draw(self, drawing, watch, place)
        clean, looks = draw.run(), draw.looks
        return Generation(
            image=self.decoded(clean.latents),
            drawing=drawing,
            evaluations=draw.guider.evaluations,
            seconds=perf_counter() - started,
            steering=tuple(looks.changes[0]),
            start_step=draw.start,
            rewinds=looks.rewinds,
            looks=looks.count,
            answers=tuple(looks.answers[0]),
            receipt=draw.receipt,
            origin=clean.origin(0, self.name),
        )

    def origin(self, image: Image.Image, drawing: Drawing) -> Origin:
        """The picture's latents, as the VAE makes them."""
        sized = image.convert("RGB").resize((drawing.width, drawing.height))
        return Clean(self.encoded(sized), self.sigmas(drawing)).origin(0, self.name)

    def encoded(self, image: Image.Image) -> Tensor:
        """A picture's latents, as the VAE makes them."""
        latents: Tensor = self._vae.encode(to_image([image]))
        return latents

    def sigmas(self, drawing: Drawing) -> Tensor:
        """The noise levels of the whole schedule."""
        return self._sampling.levels(self._model, drawing.num_inference_steps)

    def _levels(self, drawing: Drawing) -> list[float]:
        """The noise level with which each step begins."""
        levels: list[float] = self.sigmas(drawing)[:-1].tolist()
        return levels

    def decoded(self, latents: Tensor) -> Image.Image:
        """One latent ``(1, C, H, W)``, as the sampler holds it, as a picture."""
        return to_picture(self._vae.decode(latents))


class _Draw:
    """One picture on its way: its guider, its looks, and the step with which it begins."""

    def __init__(self, model: PatcherModel, drawing: Drawing, watch: Watch, place: int) -> None:
        self.looks = Looks([drawing], watch.look, place)
        self.start = 0
        self._model, self._drawing, self._watch = model, drawing, watch
        self.guider = NegativeGuider(model._model, self._schedule, self._look)

    def run(self) -> Clean:
        """Draw, and go back as often as the looks demand it."""
        model, drawing = self._model, self._drawing
        sigmas = model.sigmas(drawing)
        sampler = comfy.samplers.sampler_object(model._sampling.sampler)
        clean = self._origin()
        while True:
            noise = self._noise(clean)
            self.start = 0 if clean is None else drawing.restart_step
            self._condition()
            try:
                latents = self.guider.sample(
                    noise,
                    model._latent if clean is None else clean,
                    sampler,
                    sigmas[self.start :],
                    callback=self._report,
                    disable_pbar=True,
                    seed=drawing.seed,
                )
            except Rewind as rewind:
                clean = rewind.clean.cpu()
            else:
                return Clean(latents.cpu(), sigmas)

    @property
    def receipt(self) -> Receipt | None:
        """In what the negative acted; None where there was none."""
        start, stop = self._drawing.window
        if self._drawing.negative_prompt is None or start >= stop:
            return None
        (receipt,) = self.guider.tally.receipts()
        return receipt

    def _origin(self) -> Tensor | None:
        origin = self._drawing.origin
        if origin is None or not self._drawing.restart_step:
            return None
        return Clean.of([origin], self._model.name, torch.device("cpu"), torch.float32).latents

    def _noise(self, clean: Tensor | None) -> Tensor:
        if clean is not None and self.looks.rewinds:
            return self._model.row.noise(clean, self._drawing.seed, self.looks.rewinds)
        noise: Tensor = comfy.sample.prepare_noise(self._model._latent, self._drawing.seed)
        return noise

    def _condition(self) -> None:
        model, (negative,) = self._model, self.looks.negatives
        standing = self._drawing.standing_negative
        encode = model._text.conditioning
        self.guider.set_conds(
            model._positive or encode(self._drawing.prompt),
            None if negative is None else encode(negative),
            encode(model.row.empty if standing is None else standing),
        )

    def _schedule(self, steps: int) -> Schedule:
        """What the guider is to do; a plain drawing is guided as one between whose looks none acts.

        A rule by which looks renew the negative guides outside of its window too, and so does any
        rule against a standing negative.
        """
        drawing, row = self._drawing, self._model.row
        rule = row.rules[drawing.rule]
        drawn_plain = drawing.negative_prompt is None
        guided = drawing.true_cfg_scale > row.least_scale
        standing = drawing.standing_negative is not None
        outside = rule.renewable or standing or row.guides_always
        return Schedule(
            rule=rule,
            scale=drawing.true_cfg_scale,
            weight=drawing.negative_scale,
            window=(0, 0) if drawn_plain else drawing.window,
            afterwards="unconditional" if guided and outside else "alone",
            look_steps=drawing.look_steps if self.looks.wanted and not drawn_plain else (),
            start=self.start,
        )

    def _look(self, step: int, latents: Tensor, acts: int) -> Any:
        if self.looks.take(step, [self._model.decoded(latents)], acts):
            raise Rewind(latents)
        (negative,) = self.looks.negatives
        return None if negative is None else self._model._text.conditioning(negative)

    def _report(self, step: int, denoised: Tensor, noisy: Tensor, total: int) -> None:
        self._watch.step(self.start + step + 1, self.start + total)


def one_latent(latent: dict[str, Any], model: Any) -> Tensor:
    """The latent to draw, in the model's own channels and scale.

    Raises:
        SettingsError: there are several, a mask says that only a part is to be drawn, or it is no
            picture's.
    """
    samples = latent["samples"]
    if "noise_mask" in latent:
        raise SettingsError("The latent_image has a mask, and only whole pictures are corrected.")
    if getattr(samples, "is_nested", False) or samples.ndim != 4:
        raise SettingsError("The latent_image is of a video or a sound; give that of a picture.")
    if len(samples) != 1:
        raise SettingsError(f"The latent_image has a batch of {len(samples)}; give a batch of 1.")
    fixed: Tensor = comfy.sample.fix_empty_latent_channels(
        model, samples, latent.get("downscale_ratio_spacial")
    )
    return fixed


def to_picture(image: Tensor) -> Image.Image:
    """ComfyUI's IMAGE ``(1, H, W, C)`` in 0..1 as a picture."""
    pixels = (image[0, ..., :3].float() * 255).round().clamp(0, 255)
    return Image.fromarray(pixels.to(torch.uint8).cpu().numpy())


def to_image(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as ComfyUI's IMAGE ``(B, H, W, 3)`` in 0..1."""
    arrays = [np.array(picture.convert("RGB")) for picture in pictures]
    return torch.from_numpy(np.stack(arrays)).float() / 255

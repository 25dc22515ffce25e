"""Draws pictures of the embedded world in batches, on the networks themselves, and reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import FluxPipeline
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from npcorrect.mini import judge as template
from npcorrect.mini.checklist import meets
from npcorrect.mini.family import DEFAULTS, FAMILY
from npcorrect.mini.grammar import parse
from npcorrect.mini.language import MAX_TOKENS
from npcorrect.mini.model import SHIFT
from npcorrect.mini.scene import GRID, Scene
from npcorrect.mini.tensors import pack, to_pixels, unpack
from npcorrect.mini.viewer import Reader

STEPS = DEFAULTS.num_inference_steps
BATCH = 64


@dataclass(frozen=True)
class Job:
    """One picture to draw. The negative acts in the steps from ``start`` up to before ``stop``.

    ``original`` are clean tokens ``(cells, CODE)``, noised to the level of ``start``.
    """

    prompt: str
    seed: int
    negative: str = ""
    scale: float = 1.0
    start: int = 0
    stop: int = 0
    original: Tensor | None = None

    @property
    def evaluations(self) -> int:
        """Rows of the transformer that it takes."""
        return STEPS - self.start + len(range(self.start, self.stop))


@dataclass(frozen=True)
class Drawn:
    """A finished picture: its tokens, what the network sees, and whether verifier and judge agree
    to it.
    """

    tokens: Tensor
    scene: Scene
    accepted: bool
    right: bool


def schedule(steps: int, shift: float) -> Tensor:
    """Noise levels, one more than there are steps, the last 0: FluxPipeline's, shifted."""
    sigmas = torch.linspace(1, 1 / steps, steps)
    return torch.cat([shift * sigmas / (1 + (shift - 1) * sigmas), torch.zeros(1)])


class Studio:
    """Draws and reads pictures in batches."""

    def __init__(self, pipeline: FluxPipeline, reader: Reader, by_template: bool = False) -> None:
        self.pipeline, self._reader, self._by_template = pipeline, reader, by_template
        self._device = pipeline.device
        self._sigmas = schedule(STEPS, SHIFT)
        places = torch.cartesian_prod(torch.zeros(1), *[torch.arange(float(GRID))] * 2)
        self._image_ids = places.to(self._device)
        self._text_ids = torch.zeros(MAX_TOKENS, 3, device=self._device)

    def draw(self, jobs: Sequence[Job], description: str) -> list[Drawn]:
        """The pictures of all jobs, in order."""
        drawn: list[Drawn] = []
        with tqdm(total=len(jobs), desc=description, mininterval=5) as bar:
            for first in range(0, len(jobs), BATCH):
                part = jobs[first : first + BATCH]
                drawn += self._read(part, self.sample(part))
                bar.update(len(part))
        return drawn

    @torch.inference_mode()
    def sample(self, jobs: Sequence[Job]) -> Tensor:
        """Clean tokens ``(jobs, cells, CODE)``, by Euler's method."""
        texts = [job.prompt for job in jobs] + [job.negative for job in jobs]
        states, pooled = self._encode(texts)
        scales = torch.tensor([job.scale for job in jobs], device=self._device)[:, None, None]
        x = torch.stack([self._begun(job) for job in jobs]).to(self._device)
        for step, (sigma, following) in enumerate(self._sigmas.unfold(0, 2, 1).tolist()):
            rows = [n for n, job in enumerate(jobs) if job.start <= step]
            if not rows:
                continue
            steered = [n for n in rows if step < jobs[n].stop]
            text = rows + [len(jobs) + n for n in steered]
            both = self._velocity(x[rows + steered], sigma, states[text], pooled[text])
            v, away = torch.zeros_like(x), both[len(rows) :]
            v[rows] = both[: len(rows)]
            v[steered] = away + scales[steered] * (v[steered] - away)
            x = x + (following - sigma) * v
        return x

    def _begun(self, job: Job) -> Tensor:
        """Noise as the pipeline makes it, or the noised original."""
        shape = (1, self.pipeline.vae.config.latent_channels, 2 * GRID, 2 * GRID)
        noise = pack(torch.randn(shape, generator=torch.Generator().manual_seed(job.seed)))[0]
        if job.original is None:
            return noise
        sigma = self._sigmas[job.start]
        return sigma * noise + (1 - sigma) * job.original

    def _encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens = self.pipeline.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        ids = tokens.input_ids.to(self._device)
        words, pooled = self.pipeline.text_encoder_2(ids), self.pipeline.text_encoder(ids)
        return words.last_hidden_state, pooled.pooler_output

    def _velocity(self, x: Tensor, sigma: float, states: Tensor, pooled: Tensor) -> Tensor:
        ones = torch.ones(len(x), device=self._device)
        velocity: Tensor = self.pipeline.transformer(
            hidden_states=x,
            timestep=sigma * ones,
            guidance=FAMILY.arguments["guidance_scale"] * ones,
            encoder_hidden_states=states,
            pooled_projections=pooled,
            txt_ids=self._text_ids,
            img_ids=self._image_ids,
            return_dict=False,
        )[0]
        return velocity

    @torch.inference_mode()
    def _read(self, jobs: Sequence[Job], tokens: Tensor) -> Iterator[Drawn]:
        pixels = self.pipeline.vae.decode(unpack(tokens, GRID)).sample
        images = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1)
        scenes = [scene for scene, _ in self._reader.read(to_pixels(images))]
        shown = images.cpu().numpy()
        for n, (job, scene) in enumerate(zip(jobs, scenes, strict=True)):
            spec = parse(job.prompt)
            accepted = right = meets(spec, scene)
            if self._by_template:
                right = template.judge(spec, Image.fromarray(shown[n]))
            yield Drawn(tokens[n].cpu(), scene, accepted, right)

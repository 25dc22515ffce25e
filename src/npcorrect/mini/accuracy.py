"""How often the model's first pictures are right, by the judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import FluxPipeline
from PIL import Image

from npcorrect.mini.bench import Sample
from npcorrect.mini.checklist import requirements, satisfied
from npcorrect.mini.family import DEFAULTS, GUIDANCE
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import read
from npcorrect.mini.language import MAX_TOKENS
from npcorrect.mini.scene import IMAGE_SIZE
from npcorrect.mini.things import THINGS

_BATCH = 32


@dataclass(frozen=True)
class Setting:
    """How pictures are drawn: by the embedded scale alone, or with a true scale above 1."""

    num_inference_steps: int = DEFAULTS.num_inference_steps
    guidance_scale: float = GUIDANCE
    true_cfg_scale: float = 1.0


def draw(
    pipeline: FluxPipeline, samples: Sequence[Sample], setting: Setting
) -> Iterator[Image.Image]:
    """One picture for each sample, from its seed."""
    for start in range(0, len(samples), _BATCH):
        part = samples[start : start + _BATCH]
        prompts = [sample.prompt for sample in part]
        pictures = pipeline(
            prompts,
            negative_prompt=[""] * len(part) if setting.true_cfg_scale > 1 else None,
            true_cfg_scale=setting.true_cfg_scale,
            guidance_scale=setting.guidance_scale,
            height=IMAGE_SIZE,
            width=IMAGE_SIZE,
            num_inference_steps=setting.num_inference_steps,
            max_sequence_length=MAX_TOKENS,
            generator=[torch.Generator().manual_seed(sample.seed) for sample in part],
        ).images
        yield from pictures


def accuracy(samples: Sequence[Sample], pictures: Sequence[Image.Image]) -> dict[str, float]:
    """Shares of right pictures: by tag, ``all``, and of claims of each kind.

    ``habit: strong`` and its like are the shares of unnatural colours that are drawn as asked.
    """
    scores: defaultdict[str, list[bool]] = defaultdict(list)
    for sample, picture in zip(samples, pictures, strict=True):
        spec, scene = parse(sample.prompt), read(picture)
        named = frozenset(group.kind for group in spec.groups)
        checks = [(claim, satisfied(claim, scene, named)) for claim in requirements(spec)]
        for claim, passed in checks:
            scores[f"claim: {claim.kind}"].append(passed)
            kind = THINGS[claim.subject]
            if claim.kind == "attribute" and claim.value != kind.color:
                scores[f"habit: {kind.strength}"].append(passed)
        right = all(passed for _, passed in checks)
        scores[sample.tag].append(right)
        scores["all"].append(right)
    return {name: round(sum(passed) / len(passed), 4) for name, passed in scores.items()}

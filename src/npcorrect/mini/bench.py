"""The mini benchmark: 320 fixed prompts, 40 for each of the eight tags, without the world's habits.

The prompts lie in ``bench.jsonl``, one object a line: tag, prompt, seed.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from npcorrect.mini.data import TAGS, sample_spec

PROMPTS = Path(__file__).with_name("bench.jsonl")
PER_TAG = 40
SEED_STEP = 1000
"""Between the seeds of two prompts, so that redraws with the next seeds never meet."""


@dataclass(frozen=True)
class Sample:
    """One line of the benchmark: a prompt, its tag and its seed."""

    tag: str
    prompt: str
    seed: int


def load() -> tuple[Sample, ...]:
    """The prompts committed with the package, in the file's order.

    Raises:
        OSError: the file is missing from the package.
    """
    lines = PROMPTS.read_text(encoding="utf-8").splitlines()
    return tuple(Sample(**json.loads(line)) for line in lines)


def make(seed: int = 2512, avoid: frozenset[str] = frozenset()) -> tuple[Sample, ...]:
    """Draw the prompts, all different; the default seed gives the committed file.

    ``avoid`` names prompts to leave out, for a second, disjoint set to tune on.
    """
    rng = random.Random(seed)
    seen = set(avoid)
    samples: list[Sample] = []
    for tag in TAGS:
        wanted = len(samples) + PER_TAG
        while len(samples) < wanted:
            prompt = f"a photo of {sample_spec(rng, tag).text()}"
            if prompt not in seen:
                seen.add(prompt)
                samples.append(Sample(tag, prompt, len(samples) * SEED_STEP))
    return tuple(samples)

"""MiniBench: 280 fixed prompts, 40 for each of GenEval++'s seven tags, without the world's habits.

The prompts lie in ``minibench.jsonl``, one object a line: tag, prompt, seed. There are only
eighteen different counting prompts, so these come back with other seeds; all others differ.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from npcorrect.mini.data import TAGS, sample_spec

PROMPTS = Path(__file__).with_name("minibench.jsonl")
PER_TAG = 40
SEED_STEP = 1000
"""Between the seeds of two prompts, so that redraws with the next seeds never meet."""


@dataclass(frozen=True)
class Sample:
    """One line of MiniBench."""

    tag: str
    prompt: str
    seed: int


def load(file: Path = PROMPTS) -> tuple[Sample, ...]:
    """The prompts committed with the package, in the file's order.

    Raises:
        OSError: the file is missing from the package.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(Sample(**json.loads(line)) for line in lines)


def make(seed: int = 2512, avoid: frozenset[str] = frozenset()) -> tuple[Sample, ...]:
    """Draw the prompts; the default seed gives the committed file.

    ``avoid`` names prompts to leave out, for a second, disjoint set to tune on; counting prompts
    are too few for that and are shared.
    """
    rng = random.Random(seed)
    samples: list[Sample] = []
    for tag in TAGS:
        seen = set() if tag == "counting" else set(avoid)
        prompts: list[str] = []
        while len(prompts) < PER_TAG:
            prompt = sample_spec(rng, tag).text()
            if tag == "counting" or prompt not in seen:
                prompts.append(prompt)
                seen.add(prompt)
        numbered = enumerate(prompts, len(samples))
        samples += [Sample(tag, prompt, number * SEED_STEP) for number, prompt in numbered]
    return tuple(samples)

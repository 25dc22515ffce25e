"""A judge of Echo-4o's benchmarks that follows a script, faults included, whoever asks it.

What it says follows from what it is asked and from how often that was asked before, so upstream's
scripts and ours hear the same.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field

CUT = '{"correct": 1, "reason": "the bus is'
GENEVAL_PP_FAULTS = (
    "",
    "I cannot judge this picture.",
    CUT,
    "[1]",
    '{"correct": 1, "reason": "x"} or rather {"correct": 0, "reason": "y"}',
    '{"reason": "it is all there"}',
    '{"correct": "1", "reason": "it is all there"}',
    '{"correct": 2, "reason": "twice as good"}',
)
IMAGINE_FAULTS = (
    "",
    "I cannot judge this picture.",
    "**Fantasy Fulfillment:** {}\n\n**Identity Preservation:** {}\n\n**Aesthetic Quality:** {}",
    "Fantasy Fulfillment: {}\nReason: x\n\nIdentity Preservation: {}\nReason: x",
    "Fantasy Fulfillment: 85\n\nIdentity Preservation: {}\n\nAesthetic Quality: {}",
    "Fantasy Fulfillment: {}\n\nIdentity Preservation: high\n\nAesthetic Quality: {}",
)


@dataclass
class ScriptedJudge:
    """Answers with faults in a share of its replies."""

    faults: float
    times: Counter[str] = field(default_factory=Counter)

    def geneval_pp(self, asked: str) -> str:
        """A verdict on a picture, in one of the forms that models give."""
        rng, wrong = self._fate(asked)
        if wrong:
            return rng.choice(GENEVAL_PP_FAULTS)
        correct = int(random.Random(asked).random() < 0.5)
        verdict = json.dumps({"correct": correct, "reason": f"{len(asked)} letters"})
        return rng.choice(("{}", "```json\n{}\n```", "Here it is: {}")).format(verdict)

    def imagine(self, asked: str) -> str:
        """Three scores for a picture, from 0 to 10."""
        rng, wrong = self._fate(asked)
        marks = [sum(asked.encode()[start::3]) % 11 for start in range(3)]
        if wrong:
            return rng.choice(IMAGINE_FAULTS).format(*marks)
        return (
            "Fantasy Fulfillment: {}  \nReason: a  \n\nIdentity Preservation\uff1a{}  \nReason: b"
            "  \n\nAesthetic Quality {}/10  \nReason: c"
        ).format(*marks)

    def _fate(self, asked: str) -> tuple[random.Random, bool]:
        self.times[asked] += 1
        rng = random.Random(f"{asked} {self.times[asked]}")
        return rng, rng.random() < self.faults

"""A fake benchmark, model, roles and judge, to try runs and reports on: instant and repeatable.

A picture is a grey square whose shade says how many claims hold; it follows from prompt, seed and
negative alone. Imports no torch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from npcorrect.diffusion.base import UNWATCHED, Reading, TokenStates, Watch
from npcorrect.diffusion.fake import FakeFamily
from npcorrect.evaluation.benchmarks.base import (
    SEED_STEP,
    Figure,
    Judge,
    Judged,
    Picture,
    Sample,
    Score,
    by_tag,
    figure,
)
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.manifest import Manifest, RunSettings
from npcorrect.plan import Defaults, Plan, plan
from npcorrect.records import (
    Candidate,
    Caption,
    Check,
    Checklist,
    Drawing,
    Generation,
    Request,
    Requirement,
    Verdict,
)
from npcorrect.session import Session
from npcorrect.vlm.base import VLM
from npcorrect.vlm.roles import Roles

CLAIMS = 3
PROMPTS = 12
TAGS = ("colour", "count", "place")


DEFAULTS = Defaults(
    num_inference_steps=4,
    true_cfg_scale=2.0,
    negative_scale=1.0,
    rule="extra",
    window=1.0,
    looks=0,
    reseed=True,
    sizes=(8,),
    max_sequence_length=64,
)


def holds(image: Image.Image) -> int:
    """How many of the claims a picture meets."""
    shade = image.convert("L").getpixel((0, 0))
    assert isinstance(shade, int)
    return shade // 64


class FakeModel:
    """Draws a shade that follows from a hash; a negative makes claims likelier to hold."""

    name = "fake"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.drawn: list[Drawing] = []

    def plan(self, request: Request) -> Plan:
        """Four steps of eight by eight pixels; the paper's rule keeps the seed."""
        return plan(request, FakeFamily(), DEFAULTS)

    def check_text(self, text: str) -> None:
        """Reads any text."""

    def origin(self, image: Image.Image, drawing: Drawing) -> None:
        """Begins with noise alone."""

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """One number for every text, so that rankers keep the order."""
        return [TokenStates(np.ones((1, 1), np.float32), np.zeros(1, bool)) for _ in texts]

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """A picture for each drawing."""
        time.sleep(self.seconds)
        self.drawn += drawings
        return [self._one(drawing) for drawing in drawings]

    def _one(self, d: Drawing) -> Generation:
        digest = hashlib.sha256(f"{d.prompt}|{d.seed}|{d.negative_prompt}".encode()).digest()
        bound = 150 if d.negative_prompt is None else 180
        met = sum(byte < bound for byte in digest[:CLAIMS])
        # The noise makes every picture a file of its own.
        image = Image.frombytes("L", (8, 8), bytes([met * 64]) + bytes(digest + digest)[:63])
        per_step = (2 if d.rule == "extra" else 1) + (d.negative_prompt is not None)
        return Generation(image=image, drawing=d, evaluations=4 * per_step, seconds=0.0)


class FakeRoles:
    """Sees what is there, except that a picture in eight of those that are wrong passes."""

    def roles(self) -> Roles:
        """All four roles."""
        return Roles(self, self, self, self)

    def checklist(self, prompt: str) -> Checklist:
        """The same claims for every prompt."""
        claims = (Requirement(f"r{i}", "object", f"{i} holds", f"{i}", "") for i in range(CLAIMS))
        return Checklist(prompt, tuple(claims))

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        """A check for each claim."""
        met = CLAIMS if image.convert("L").tobytes()[1] < 32 else holds(image)
        return Verdict(tuple(Check(c, i < met) for i, c in enumerate(checklist.requirements)))

    def caption(self, image: Image.Image) -> Caption:
        """How many claims hold."""
        return Caption(f"{holds(image)} hold")

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """The caption, numbered."""
        return tuple(Candidate(f"{caption.text} {i}", "targeted") for i in range(limit))


class FakeJudge:
    """Right where all claims hold; says nothing of a picture in sixteen."""

    name = "fake"

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """1 or 0, or unscored."""
        return [self._score(image) for _, image in pictures]

    def _score(self, image: Image.Image) -> Score:
        if image.convert("L").tobytes()[2] < 16:
            return Score(None, "no answer", raw="mumble")
        return Score(float(holds(image) == CLAIMS), f"{holds(image)} hold")


@dataclass(frozen=True)
class FakeBench:
    """A few prompts in three tags."""

    prompts: int = PROMPTS
    name: str = "mini"
    scale: float = 1.0
    upstream_judge: str | None = None

    def samples(self) -> tuple[Sample, ...]:
        """The prompts."""
        return tuple(
            Sample(i + 1, TAGS[i % 3], f"prompt {i} <b>&", i * SEED_STEP)
            for i in range(self.prompts)
        )

    def checksum(self) -> str:
        """Says how many prompts there are."""
        return f"fake {self.prompts}"

    def checklist(self, sample: Sample) -> Checklist:
        """What the roles ask too."""
        return FakeRoles().checklist(sample.prompt)

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The mean of the tags."""
        return (figure("mean of tags", judged, group=by_tag),)

    def judge(self, vlm: VLM | None) -> Judge:
        """Looks at the shade."""
        return FakeJudge()


def fake_tools(seconds: float = 0.0) -> Tools:
    """Everything that a worker needs; each drawing sleeps for so many seconds."""
    session = Session(FakeModel(seconds), FakeRoles().roles())
    return Tools(session, FakeJudge(), FakeBench())


def fake_manifest(**settings: Any) -> Manifest:
    """The manifest of a run of the fake benchmark."""
    base = RunSettings("mini", ("base", "best-of-n", "npc-paper", "npc"), images=3)
    return Manifest(replace(base, **settings), "fake 12", "code", {"python": "3"}, "")

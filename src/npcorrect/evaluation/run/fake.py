"""A fake benchmark, model, roles and judge, to try runs and reports on: instant and repeatable.

A picture is a grey square whose shade says how many claims hold; it follows from prompt, seed and
negative alone. Imports no torch.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from npcorrect.diffusion.fake import FakeFamily, FakeImageModel
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
from npcorrect.plan import Defaults
from npcorrect.records import (
    Candidate,
    Caption,
    Check,
    Checklist,
    Drawing,
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
    fresh_from=1,
    sizes=(8,),
    max_sequence_length=64,
)


def holds(image: Image.Image) -> int:
    """How many of the claims a picture meets."""
    shade = image.convert("L").getpixel((0, 0))
    assert isinstance(shade, int)
    return shade // 64


def shade(drawing: Drawing) -> Image.Image:
    """A shade that follows from a hash; a negative makes claims likelier to hold.

    The noise beside the first pixel makes every picture a file of its own.
    """
    text = f"{drawing.prompt}|{drawing.seed}|{drawing.negative_prompt}"
    digest = hashlib.sha256(text.encode()).digest()
    bound = 150 if drawing.negative_prompt is None else 180
    met = sum(byte < bound for byte in digest[:CLAIMS])
    return Image.frombytes("L", (8, 8), bytes([met * 64]) + bytes(digest + digest)[:63])


def fake_model(on_draw: Callable[[Drawing], object] = lambda drawing: None) -> FakeImageModel:
    """Draws four steps of eight by eight pixels; ``on_draw`` is called with each drawing first."""
    return FakeImageModel(DEFAULTS, family=FakeFamily(restarts=False), paint=shade, on_draw=on_draw)


class FakeRoles:
    """Sees what is there, except that a picture in eight of those that are wrong passes."""

    def roles(self) -> Roles:
        """The four roles, all played by this object."""
        return Roles(self, self, self, self)

    def checklist(self, prompt: str) -> Checklist:
        """``CLAIMS`` claims, 'r0' on, the same for every prompt."""
        claims = (Requirement(f"r{i}", "object", f"{i} holds", f"{i}", "") for i in range(CLAIMS))
        return Checklist(prompt, tuple(claims))

    def verify(self, image: Image.Image, checklist: Checklist) -> Verdict:
        """A check for each claim; the first ones hold, as many as the shade says."""
        met = CLAIMS if image.convert("L").tobytes()[1] < 32 else holds(image)
        return Verdict(tuple(Check(c, i < met) for i, c in enumerate(checklist.requirements)))

    def caption(self, image: Image.Image) -> Caption:
        """A caption that says how many claims hold."""
        return Caption(f"{holds(image)} hold")

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """``limit`` targeted candidates: the caption with a number each."""
        return tuple(Candidate(f"{caption.text} {i}", "targeted") for i in range(limit))


class FakeJudge:
    """Right where all claims hold; says nothing of a picture in sixteen."""

    name = "fake"

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """1 where all claims hold, else 0; a picture in sixteen is unscored."""
        return [self._score(image) for _, image in pictures]

    def _score(self, image: Image.Image) -> Score:
        if image.convert("L").tobytes()[2] < 16:
            return Score(None, "no answer", raw="mumble")
        return Score(float(holds(image) == CLAIMS), f"{holds(image)} hold")


@dataclass(frozen=True)
class FakeBench:
    """A benchmark for tests: a few prompts in three tags."""

    prompts: int = PROMPTS
    name: str = "mini"
    scale: float = 1.0
    upstream_judge: str | None = None

    def samples(self) -> tuple[Sample, ...]:
        """``prompts`` samples in three tags, with characters that pages must escape."""
        return tuple(
            Sample(i + 1, TAGS[i % 3], f"prompt {i} <b>&", i * SEED_STEP)
            for i in range(self.prompts)
        )

    def checksum(self) -> str:
        """A checksum that changes with the number of prompts alone."""
        return f"fake {self.prompts}"

    def checklist(self, sample: Sample) -> Checklist:
        """The checklist that the roles ask too, so that verifier and judge agree on claims."""
        return FakeRoles().checklist(sample.prompt)

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The headline: the mean of the tags' accuracies, 0 to 1."""
        return (figure("mean of tags", judged, group=by_tag),)

    def judge(self, vlm: VLM | None) -> Judge:
        """The fake judge, which reads the shade whatever model is named."""
        return FakeJudge()


def fake_tools(seconds: float = 0.0) -> Tools:
    """Everything that a worker needs; each drawing sleeps for so many seconds."""
    session = Session(fake_model(lambda drawing: time.sleep(seconds)), FakeRoles().roles())
    return Tools(session, FakeJudge(), FakeBench())


def fake_manifest(**settings: Any) -> Manifest:
    """The manifest of a run of the fake benchmark."""
    base = RunSettings("mini", ("base", "best-of-n", "npc-paper", "npc"), images=3)
    return Manifest(replace(base, **settings), "fake 12", "code", {"python": "3"}, "")

"""Fewer questions for the same verdict, where a verifier is paid by the question."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.loop import correct
from npcorrect.proposing import RuleProposer
from npcorrect.ranking import SourceRanker
from npcorrect.records import Attempt, Drawing, Request
from npcorrect.vlm.base import Question, Reply
from npcorrect.vlm.cache import AnswerMemory, CachedVLM
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.grammar import GrammarChecklister
from npcorrect.vlm.model_roles import VLMCaptioner
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.verifier import VLMVerifier
from tests.vlm.test_verifier import together

PROMPT = "three red cups and one dog"
CLAIMS = {c.id: c.text for c in GrammarChecklister().checklist(PROMPT).requirements}
REQUEST = Request(PROMPT, candidates=3)
CAPTION = '{"text": "four cups on a table", "phrases": ["four cups", "a table"]}'


def numbered(drawing: Drawing) -> Image.Image:
    """The original is black, and every redrawing another colour."""
    return Image.new("RGB", (8, 8), (0, sum(map(ord, drawing.negative_prompt or "")) % 256, 0))


class Asked:
    """A model that finds these claims wrong in the original, and these in all other pictures."""

    def __init__(self, original: set[str], redrawn: set[str], many: bool = False) -> None:
        self.questions: list[tuple[bool, Question]] = []
        self._wrong = {True: original, False: redrawn}
        self.fake = FakeVLM([self.answer], repeat=True, together=many)

    def answer(self, question: Question) -> str | Reply:
        (picture,) = question.messages[-1].images
        original = picture.getpixel((0, 0)) == (0, 0, 0)
        if question.schema and "phrases" in question.schema["properties"]:
            return CAPTION
        self.questions.append((original, question))
        wrong = self._wrong[original]
        shares = {name: ("no" if name in wrong else "yes", 0.99) for name in CLAIMS}
        alone = {CLAIMS[name]: "no" for name in wrong}
        return together(shares, alone).ask([question])[0]

    def claims(self, original: bool) -> list[str]:
        """The claims that were asked singly about the original, or about the other pictures."""
        texts = [q.messages[-1].text for of, q in self.questions if of == original and not q.schema]
        return [name for text in texts for name, claim in CLAIMS.items() if claim in text]

    def observations(self, original: bool) -> int:
        """How often it was asked what is seen instead."""
        return sum(
            of == original and q.schema is not None and not q.choices for of, q in self.questions
        )


def run(asked: Asked, request: Request = REQUEST) -> list[Attempt]:
    vlm = CachedVLM(asked.fake, AnswerMemory())
    roles = Roles(GrammarChecklister(), VLMVerifier(vlm), VLMCaptioner(vlm), RuleProposer())
    model = FakeImageModel(paint=numbered)
    return list(correct(request, model, roles, SourceRanker()))


def test_redrawings_are_asked_what_failed_before_and_no_more_while_that_fails() -> None:
    attempts = run(asked := Asked({"r3"}, {"r3"}))
    assert sorted(asked.claims(original=True)) == sorted(CLAIMS)
    redrawn = {attempt.generation.negatives for attempt in attempts[1:]}
    assert len(redrawn) == len(attempts) - 1 == 3
    assert asked.claims(original=False) == ["r3"] * 3
    assert asked.observations(original=False) == 3
    for attempt in attempts[1:]:
        assert attempt.verdict.accepted is False
        assert [claim.id for claim in attempt.verdict.skipped] == ["r1", "r2", "r4", "r5"]
        assert attempt.verdict.score == 0.0
        assert attempt.verdict.failed[0].observed == "four cups"


@pytest.mark.parametrize("many", [True, False])
def test_of_an_accepted_redrawing_every_claim_was_asked(many: bool) -> None:
    attempts = run(asked := Asked({"r3"}, set(), many))
    assert [attempt.verdict.accepted for attempt in attempts] == [False, True]
    assert attempts[-1].verdict.skipped == ()
    assert all(check.passed for check in attempts[-1].verdict.checks)
    assert sorted(asked.claims(original=False)) == ([] if many else sorted(CLAIMS))


def test_a_claim_that_failed_for_another_ones_sake_is_not_asked_first() -> None:
    run(asked := Asked({"r1"}, {"r1"}))
    assert set(asked.claims(original=False)) == {"r1"}


def test_looks_ask_what_failed_before_and_not_what_is_seen_instead() -> None:
    request = replace(REQUEST, candidates=1, looks=2, rule="extra")
    attempts = run(asked := Asked({"r3"}, {"r3"}), request)
    assert attempts[1].generation.looks == 2
    assert set(asked.claims(original=False)) == {"r3"}
    assert asked.observations(original=False) == 1


def test_the_same_picture_and_claim_are_asked_once_in_a_run() -> None:
    run(asked := Asked({"r3"}, {"r4"}), replace(REQUEST, looks=2, rule="extra"))
    keys = [(q.messages[-1].images[0].tobytes(), q.messages[-1].text) for _, q in asked.questions]
    assert len(keys) == len(set(keys))

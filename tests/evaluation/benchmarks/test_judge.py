"""A judge that is asked again, and what is kept of what it was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from npcorrect.evaluation.benchmarks.base import Sample
from npcorrect.evaluation.benchmarks.geneval_pp import GenEvalPP
from npcorrect.evaluation.benchmarks.judge import repeated
from npcorrect.evaluation.run.fake import FakeJudge
from npcorrect.vlm.base import Reply
from npcorrect.vlm.cache import AnswerMemory, CachedVLM
from npcorrect.vlm.fake import FakeVLM

SAMPLE = Sample(1, "t", "a cat", 0, facts={"include": [{"class": "cat"}]})
PICTURE = Image.new("RGB", (8, 8))


def test_a_judge_is_asked_again_with_seeds_of_their_own() -> None:
    vlm = FakeVLM(['{"correct": 1, "reason": ""}', "mumble", '{"correct": 0, "reason": ""}'])
    judge = repeated(GenEvalPP().judge(vlm), 3)
    (score,) = judge.scores([(SAMPLE, PICTURE)])
    assert (score.value, score.again) == (1.0, (None, 0.0))
    assert [question.seed for question in vlm.asked] == [None, 1, 2]
    assert score.usage.calls == 3
    assert judge.name == "fake"


def test_a_judge_without_a_model_is_asked_again_too() -> None:
    image = Image.new("L", (8, 8), 192)
    (score,) = repeated(FakeJudge(), 2).scores([(SAMPLE, image)])
    assert score.again == (score.value,)
    once = FakeJudge()
    assert repeated(once, 1) is once


def test_what_the_judge_was_asked_is_kept() -> None:
    vlm = FakeVLM(['{"correct": 1, "reason": ""}'])
    (score,) = GenEvalPP().judge(vlm).scores([(SAMPLE, PICTURE)])
    assert score.asked.startswith("[system]\nYou judge")
    assert "[user]\n[picture of 8 x 8 pixels, in the client's size and format]" in score.asked
    assert "a cat" in score.asked


@pytest.mark.parametrize("reply", ["mumble", Reply("half", error="the reply was cut off")])
def test_a_picture_without_a_score_is_asked_about_again_whatever_is_kept(
    reply: str | Reply,
) -> None:
    """The first question is answered, and what was answered is kept; the second one is not."""
    good, other = '{"correct": 1, "reason": ""}', replace(SAMPLE, prompt="a dog")
    vlm, memory = FakeVLM([good, reply, good]), AnswerMemory()
    bench = GenEvalPP(wording="upstream")
    values = [
        [score.value for score in bench.judge(CachedVLM(vlm, memory)).scores(pictures)]
        for pictures in [[(SAMPLE, PICTURE), (other, PICTURE)]] * 3
    ]
    assert values == [[1.0, None], [1.0, 1.0], [1.0, 1.0]]
    assert len(vlm.asked) == 3

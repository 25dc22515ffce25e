"""GenEval++: loading, checklists, the judge's question, every branch of the scoring."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import BudgetError, SettingsError
from npcorrect.evaluation.benchmarks.base import Judged, Sample, Score
from npcorrect.evaluation.benchmarks.geneval_pp import GenEvalPP
from npcorrect.evaluation.benchmarks.inclusion import checklist_text
from npcorrect.evaluation.run.manifest import RunSettings
from npcorrect.evaluation.run.tools import (
    EMBEDDED_JUDGE,
    check_judge,
    judging,
    with_embedded_judge,
)
from npcorrect.mini.data import sample_scene
from npcorrect.mini.family import DEFAULTS, FAMILY
from npcorrect.mini.grammar import parse
from npcorrect.mini.scene import Scene, to_image
from npcorrect.plan import plan
from npcorrect.records import Request
from npcorrect.settings import LoadSettings
from npcorrect.vlm.base import Reply, Usage
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.settings import VLMTable
from tests.evaluation.judged import judged
from tests.evaluation.official_data import needs

GENEVAL_PP_HASH = "0dbf1b0ad2df07c2251fc8e0a0ae9ce7213414ded816831f631855c68df88211"
PICTURE = Image.new("RGB", (8, 8))
BUS: dict[str, Any] = {
    "tag": "color_attr",
    "prompt": "A photo of a brown bus and three larger clocks on the left",
    "include": [
        {"class": "bus", "count": 1, "color": "brown"},
        {"class": "clock", "count": 3, "size": "larger", "region": "left"},
        {"class": "cat"},
    ],
    "exclude": [{"class": "clock", "count": 4}, {"class": "dog"}],
}
SAMPLE = Sample(1, "color_attr", BUS["prompt"], 0, facts=BUS)


@pytest.fixture
def bench() -> GenEvalPP:
    return GenEvalPP(needs("geneval_pp.jsonl"))


def test_the_official_file(bench: GenEvalPP) -> None:
    samples = bench.samples()
    assert [s.id for s in samples] == list(range(1, 281))
    assert set(Counter(s.tag for s in samples).values()) == {40}
    assert len({s.seed for s in samples}) == 280
    assert all(bench.checklist(s).requirements for s in samples)


def test_the_checklist_for_the_judge() -> None:
    assert checklist_text(BUS).splitlines() == [
        "- exactly 1 brown bus",
        "- exactly 3 larger clocks, in the left part of the picture",
        "- exactly 1 cat",
        "- no more than 3 clocks",
        "- no more than 0 dogs",
    ]


def test_the_checklist_for_the_oracle() -> None:
    claims = GenEvalPP().checklist(SAMPLE).requirements
    assert [(c.kind, c.subject, c.value) for c in claims] == [
        ("object", "bus", "bus"),
        ("count", "bus", "1"),
        ("attribute", "bus", "brown"),
        ("object", "clock", "clock"),
        ("count", "clock", "3"),
        ("size", "clock", "larger"),
        ("relation", "clock", "in the left part of the picture"),
        ("object", "cat", "cat"),
        ("count", "cat", "1"),
        ("count", "clock", "3"),
        ("count", "dog", "0"),
    ]
    assert claims[1].text == "there is exactly one bus"
    assert claims[1].depends_on == (claims[0].id,)
    assert claims[-1].text == "there are no more than zero dogs"


def test_the_judge_is_asked_once_with_the_checklist() -> None:
    vlm = FakeVLM(['{"correct": 1, "reason": "all there"}'])
    (score,) = GenEvalPP().judge(vlm).scores([(SAMPLE, PICTURE)])
    assert (score.value, score.reason, score.usage.calls) == (1.0, "all there", 1)
    (question,) = vlm.asked
    assert question.temperature == 0
    assert question.messages[-1].images == (PICTURE,)
    assert checklist_text(BUS) in question.messages[-1].text
    assert BUS["prompt"] in question.messages[-1].text


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"correct": 0, "reason": "two buses"}', 0.0),
        ('{"correct": 2, "reason": "?"}', None),
        ('{"reason": "?"}', None),
        ("[1]", None),
        ("I think it is fine", None),
        (Reply("half a", error="the reply was cut off"), None),
    ],
)
def test_what_replies_mean(reply: str | Reply, value: float | None) -> None:
    (score,) = GenEvalPP().judge(FakeVLM([reply])).scores([(SAMPLE, PICTURE)])
    assert score.value == value
    if value is None:
        assert score.reason
        assert score.raw == (reply if isinstance(reply, str) else reply.text)


def test_a_spent_budget_ends_the_judging_and_is_no_score() -> None:
    stopped = Reply("", error="the budget is used up", stopped=True)
    with pytest.raises(BudgetError, match="used up"):
        GenEvalPP().judge(FakeVLM([stopped])).scores([(SAMPLE, PICTURE)])


def test_many_pictures_are_judged_together_and_told_apart() -> None:
    asked: list[int] = []

    class Noting(FakeVLM):
        def ask(self, questions: Any) -> list[Reply]:
            asked.append(len(questions))
            return super().ask(questions)

    vlm = Noting(['{"correct": 1, "reason": "a"}', "mumble", '{"correct": 0, "reason": "c"}'])
    scores = GenEvalPP().judge(vlm).scores([(SAMPLE, PICTURE)] * 3)
    assert [s.value for s in scores] == [1.0, None, 0.0]
    assert asked == [3]


def test_without_a_judge_it_says_which_one_is_upstreams() -> None:
    with pytest.raises(SettingsError, match=r"openai:gpt-4\.1-2025-04-14"):
        check_judge(RunSettings("geneval++", ("base",)), GenEvalPP())


def test_the_embedded_model_draws_every_official_prompt_as_it_is(bench: GenEvalPP) -> None:
    prompts = [sample.prompt for sample in bench.samples()]
    drawn = [plan(Request(prompt), FAMILY, DEFAULTS).template.prompt for prompt in prompts]
    assert drawn == prompts
    assert len(drawn) == 280


OWN = RunSettings("geneval++", ("base",))


def test_the_embedded_models_pictures_are_judged_by_templates_and_labelled_so() -> None:
    settings = with_embedded_judge(OWN, GenEvalPP())
    assert settings == replace(OWN, judge=EMBEDDED_JUDGE)
    assert "not GPT-4.1" in EMBEDDED_JUDGE
    check_judge(settings, GenEvalPP())
    sample = Sample(1, "color_attr", "A photo of a brown bus and two green trucks", 0)
    right = to_image(sample_scene(random.Random(0), parse(sample.prompt)))
    with judging(settings, GenEvalPP(), VLMTable()) as judge:
        assert judge.name == EMBEDDED_JUDGE
        scores = judge.scores([(sample, right), (sample, to_image(Scene(())))])
    assert [score.value for score in scores] == [1.0, 0.0]
    assert "at least one bus is visible" in scores[1].reason


@pytest.mark.parametrize(
    "settings",
    [
        replace(OWN, load=LoadSettings(model="black-forest-labs/FLUX.1-dev")),
        replace(OWN, images=0),
        replace(OWN, wording="upstream"),
    ],
)
def test_other_pictures_need_a_judge_that_is_named(settings: RunSettings) -> None:
    assert with_embedded_judge(settings, GenEvalPP()) == settings
    with pytest.raises(SettingsError, match="name one with --judge"):
        check_judge(settings, GenEvalPP())


def test_a_judge_that_is_named_is_the_judge() -> None:
    named = replace(OWN, judge="openai:gpt-4.1")
    assert with_embedded_judge(named, GenEvalPP()) == named
    theirs = replace(OWN, judge=EMBEDDED_JUDGE, load=LoadSettings(model="a/b"))
    with pytest.raises(SettingsError, match="embedded model's pictures"):
        check_judge(theirs, GenEvalPP())


def test_the_figure_is_the_mean_of_tags(bench: GenEvalPP) -> None:
    """Tag one: 1 of 2 with one unscored; tag two: 1 of 1."""
    first = [s for s in bench.samples() if s.tag == "counting"][:3]
    second = next(s for s in bench.samples() if s.tag == "color_attr")
    scores = {
        first[0].id: [Score(1.0)],
        first[1].id: [Score(0.0)],
        first[2].id: [Score(None)],
        second.id: [Score(1.0)],
    }
    right, upstream = bench.figures(judged(bench.samples(), scores))
    assert right.value == 0.75
    assert not right.fault
    assert upstream.value == pytest.approx((1 / 3 + 1) / 2)
    assert upstream.fault


def test_a_missing_picture_is_wrong_as_upstream_has_it_and_both_figures_are_given() -> None:
    """Tag a: right, wrong, missing; tag b: right, the judge failed."""
    values = {
        ("a", 1): Score(1.0), ("a", 2): Score(0.0), ("a", 3): Score(None, missing=True),
        ("b", 4): Score(1.0), ("b", 5): Score(None, "the judge failed"),
    }  # fmt: skip
    some = [Judged(number, tag, (score,)) for (tag, number), score in values.items()]
    official, there, upstream = GenEvalPP().figures(some)
    assert official.value == pytest.approx((1 / 3 + 1) / 2)
    assert there.value == pytest.approx((1 / 2 + 1) / 2)
    assert upstream.value == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert [figure.n for figure in (official, there, upstream)] == [4, 3, 5]
    assert [bool(figure.fault) for figure in (official, there, upstream)] == [False, False, True]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('Sure: ```json\n{"correct": 1, "reason": "x"}\n```', 1.0),
        ('{"correct": 0}', 0.0),
        ('{"correct": "1", "reason": "x"}', None),
        ("no", None),
    ],
)
def test_upstreams_wording_is_read_as_upstream_reads_it(reply: str, value: float | None) -> None:
    vlm = FakeVLM([reply])
    (score,) = GenEvalPP(wording="upstream").judge(vlm).scores([(SAMPLE, PICTURE)])
    assert score.value == value
    (question,) = vlm.asked
    assert (question.schema, question.max_tokens, question.temperature) == (None, 200, 0)
    system, user = question.messages
    assert system.text.startswith("You are an expert image evaluator.")
    assert user.text_first
    assert user.encoding is not None
    assert (user.encoding.format, user.encoding.quality) == ("JPEG", None)
    assert user.text.splitlines()[-6:] == [
        "This image should contain:",
        "- brown-colored 1 bus present in the image.",
        "- larger 3 clocks located in the left part of the image.",
        "- 1 cat present in the image.",
        "- No more than 3 clocks should appear.",
        "- No more than 0 dog should appear.",
    ]
    assert "[picture of 8 x 8 pixels, sent whole as JPEG]" in score.asked


def test_upstreams_messages_are_upstreams_to_the_letter(bench: GenEvalPP) -> None:
    """The hash of what its script sent for all prompts, when it was run with a fake client."""
    upstream = replace(bench, wording="upstream")
    texts = [
        [message.text for message in question.messages]
        for sample in upstream.samples()
        for question in upstream.questions(sample, PICTURE)
    ]
    assert sha256(json.dumps(texts).encode()).hexdigest() == GENEVAL_PP_HASH


def test_results_are_written_as_upstream_does_and_read_back(
    bench: GenEvalPP, tmp_path: Path
) -> None:
    usage = Usage(calls=1)
    scores = {(n, 0): Score(float(n % 2), f"reason {n}", usage=usage) for n in range(1, 280)}
    scores[7, 0] = Score(None, "cut off")
    bench.write_results((), scores, {}, tmp_path)
    file = json.loads((tmp_path / "Output.json").read_text())
    rows = file["overall_results"]
    assert [row["id"] for row in rows] == list(range(1, 281))
    assert rows[0]["result"] == {"correct": 1, "reason": "reason 1"}
    assert rows[6]["result"] == {"correct": -1, "reason": "cut off"}
    assert rows[279]["result"] == {"correct": 0, "reason": "Image not found"}
    assert file["overall_accuracy_all_samples"] == round(139 / 280, 4)
    assert file["overall_score_mean_of_tags"] == pytest.approx(139 / 280, abs=1e-3)
    assert set(file["tag_accuracy"]) == {s.tag for s in bench.samples()}
    back = bench.read_results(tmp_path / "Output.json")
    assert back[1, 0].value == 1.0
    assert back[7, 0].value is None
    assert back[7, 0].reason == "cut off"
    assert back[280, 0].missing
    again = tmp_path / "again"
    again.mkdir()
    bench.write_results((), back, {}, again)
    assert json.loads((again / "Output.json").read_text()) == file


@pytest.mark.parametrize("text", ["{}", "[1]", '{"overall_results": [{"id": 1}]}', "nonsense"])
def test_other_files_are_no_results(text: str, tmp_path: Path) -> None:
    path = tmp_path / "Output.json"
    path.write_text(text)
    with pytest.raises(SettingsError, match="no result file"):
        GenEvalPP().read_results(path)

"""GenEval 2: Soft-TIFA from probabilities. The official file is looked for, and is never ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Sample, Score
from npcorrect.evaluation.benchmarks.geneval2 import GenEval2, geometric_mean, soft_tifa
from npcorrect.vlm.base import Reply
from npcorrect.vlm.fake import FakeVLM
from tests.evaluation.official_data import needs

PICTURE = Image.new("RGB", (8, 8))
FACTS: dict[str, Any] = {
    "prompt": "two green pigs",
    "atom_count": 3,
    "vqa_list": [
        ["How many pigs are in the image?", "two"],
        ["Are the pigs green?", "Yes"],
        ["Are there any pigs in the image?", "Yes"],
    ],
    "skills": ["count", "attribute", "object"],
}
SAMPLE = Sample(1, "3 atoms", FACTS["prompt"], 0, facts=FACTS)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> GenEval2:
    """A benchmark of two prompts, in the official format."""
    other = SAMPLE.__class__(2, "3 atoms", "two red pigs", 1000, facts=FACTS)
    monkeypatch.setattr(GenEval2, "samples", lambda self: (SAMPLE, other))
    return GenEval2()


def test_the_official_file() -> None:
    samples = GenEval2(needs("geneval2_data.jsonl")).samples()
    assert len(samples) == 800
    assert all(GenEval2().checklist(s).requirements for s in samples)


def replies(*right: float) -> list[Reply]:
    answers = [answer for _, answer in FACTS["vqa_list"]]
    return [
        Reply(answer, probabilities={answer: p, "other": 1 - p})
        for answer, p in zip(answers, right, strict=True)
    ]


def test_each_atom_is_asked_in_one_word_and_the_probabilities_count() -> None:
    vlm = FakeVLM(replies(0.5, 1.0, 0.25))
    (score,) = GenEval2().judge(vlm).scores([(SAMPLE, PICTURE)])
    assert score.value == pytest.approx((0.5 * 1.0 * 0.25) ** (1 / 3))
    assert [value for _, value in score.parts] == [0.5, 1.0, 0.25]
    assert score.reason == "Are there any pigs in the image? Yes"
    assert [q.messages[-1].text for q in vlm.asked] == [
        f"{question} Answer in one word." for question, _ in FACTS["vqa_list"]
    ]
    assert "two" in vlm.asked[0].choices
    assert vlm.asked[1].choices == ("Yes", "No")


def test_an_answer_that_the_model_does_not_think_of_has_no_probability() -> None:
    some = [Reply("three", probabilities={"three": 1.0}), *replies(1, 1, 1)[1:]]
    (score,) = GenEval2().judge(FakeVLM(some)).scores([(SAMPLE, PICTURE)])
    assert score.value == 0


def test_a_model_without_probabilities_gives_no_score() -> None:
    (score,) = GenEval2().judge(FakeVLM(["two", "Yes", "Yes"])).scores([(SAMPLE, PICTURE)])
    assert score.value is None
    assert "probabilities" in score.reason
    assert score.raw == "two\nYes\nYes"


@pytest.mark.parametrize(
    ("values", "mean"), [([1, 1], 1), ([0.25, 1], 0.5), ([0, 1], 0), ([0.5], 0.5)]
)
def test_the_geometric_mean(values: list[float], mean: float) -> None:
    assert geometric_mean(values) == mean


@pytest.mark.parametrize("values", [[0.5], [0.5, 2, 0.5], [-1, 0, 0]])
def test_scores_that_do_not_fit_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"score|zip"):
        soft_tifa(FACTS["vqa_list"], values)


def test_the_figures(bench: GenEval2) -> None:
    pairs = FACTS["vqa_list"]
    scores = {
        1: [soft_tifa(pairs, [0.25, 1.0, 1.0])],
        2: [soft_tifa(pairs, [1.0, 1.0, 0.5]), Score(None)],
    }
    figures = {figure.name: figure.value for figure in bench.figures(scores)}
    gm = (0.25 ** (1 / 3) + 0.5 ** (1 / 3)) / 2
    assert figures["Soft-TIFA GM"] == pytest.approx(gm)
    assert figures["Soft-TIFA AM"] == pytest.approx((0.75 + 2.5 / 3) / 2)
    assert figures["AM, count"] == 0.625
    assert figures["AM, object"] == 0.75
    assert figures["AM, verb"] is None


def test_the_oracles_checklist() -> None:
    claims = GenEval2().checklist(SAMPLE).requirements
    assert [(c.kind, c.subject, c.value) for c in claims] == [
        ("count", "pig", "two"),
        ("attribute", "", "Yes"),
        ("object", "pig", "Yes"),
    ]


def test_results_are_written_as_upstream_does_and_read_back(
    bench: GenEval2, tmp_path: Path
) -> None:
    pairs = FACTS["vqa_list"]
    scores = {1: soft_tifa(pairs, [0.25, 1.0, 1.0]), 2: soft_tifa(pairs, [1.0, 1.0, 0.5])}
    bench.write_results(scores, {1: tmp_path / "1.png"}, tmp_path)
    paths = json.loads((tmp_path / "image_paths.json").read_text())
    assert paths == {"two green pigs": str(tmp_path / "1.png")}
    assert json.loads((tmp_path / "score_lists.json").read_text()) == [[0.25, 1, 1], [1, 1, 0.5]]
    assert bench.read_results(tmp_path / "score_lists.json") == scores


def test_lists_of_scores_are_not_written_with_gaps(bench: GenEval2, tmp_path: Path) -> None:
    bench.write_results({1: Score(None)}, {}, tmp_path)
    assert not (tmp_path / "score_lists.json").exists()
    (tmp_path / "wrong.json").write_text("[[1, 1, 1]]")
    with pytest.raises(SettingsError, match="no list of scores"):
        bench.read_results(tmp_path / "wrong.json")

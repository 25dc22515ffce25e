"""GenEval 2: Soft-TIFA from probabilities. The official file is looked for, and is never ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Judged, Sample, Score
from npcorrect.evaluation.benchmarks.geneval2 import GenEval2, probability, soft_tifa, spellings
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
LABELS = [
    f"{skill}: {question} {answer}"
    for (question, answer), skill in zip(FACTS["vqa_list"], FACTS["skills"], strict=True)
]
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


def replies(*right: float, whole: float = 1.0) -> list[Reply]:
    """Replies to the three questions and to that about the whole, each with all its tokens."""
    answers = [*(answer for _, answer in FACTS["vqa_list"]), "Yes"]
    return [
        Reply(answer, tokens={answer: p, "other": 1 - p})
        for answer, p in zip(answers, (*right, whole), strict=True)
    ]


def test_each_atom_is_asked_in_one_word_and_the_probabilities_count() -> None:
    vlm = FakeVLM(replies(0.5, 1.0, 0.25, whole=0.75))
    (score,) = GenEval2().judge(vlm).scores([(SAMPLE, PICTURE)])
    assert score.value == pytest.approx((0.5 * 1.0 * 0.25) ** (1 / 3))
    assert score.bounds is None
    assert dict(score.parts) == {
        "count: How many pigs are in the image? two": 0.5,
        "attribute: Are the pigs green? Yes": 1.0,
        "object: Are there any pigs in the image? Yes": 0.25,
        "TIFA": pytest.approx(2 / 3),
        "VQAScore": 0.75,
    }
    assert score.reason == "object: Are there any pigs in the image? Yes"
    assert [q.messages[-1].text for q in vlm.asked] == [
        *(f"{question} Answer in one word." for question, _ in FACTS["vqa_list"]),
        'Does this image show "two green pigs"? Answer the question with Yes or No.',
    ]
    assert all(q.tokens and q.max_tokens == 1 and not q.choices for q in vlm.asked)


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ("two", {"two", "Two", " two", " Two", "2", " 2"}),
        ("Yes", {"Yes", "yes", " Yes", " yes"}),
    ],
)
def test_the_spellings_are_upstreams(answer: str, tokens: set[str]) -> None:
    assert set(spellings(answer)) == tokens
    given = dict.fromkeys(tokens, 0.1) | {"No": 1 - 0.1 * len(tokens)}
    assert probability(given, spellings(answer)) == pytest.approx((0.1 * len(tokens),) * 2)


def test_an_answer_among_the_tokens_that_are_not_told_is_bounded_and_not_zero() -> None:
    """Five tokens that add up to 0.9, the least of them 0.01: up to four spellings of 0.01."""
    told = {"No": 0.8, "no": 0.05, "A": 0.02, "B": 0.02, "C": 0.01}
    low, high = probability(told, spellings("Yes"))
    assert low == 0
    assert high == pytest.approx(0.04)
    nearly = told | {"No": 0.899}
    assert probability(nearly, spellings("Yes"))[1] == pytest.approx(0.001), "no more than is left"
    some = [Reply("No", tokens=told), *replies(1, 1, 1)[1:]]
    (score,) = GenEval2().judge(FakeVLM(some)).scores([(SAMPLE, PICTURE)])
    assert score.value is not None
    assert score.bounds is not None
    assert score.bounds[0] == 0 < score.value < score.bounds[1]
    figures = {f.name: f.value for f in GenEval2().figures([Judged(1, "3 atoms", (score,))])}
    assert (figures["Soft-TIFA GM, at least"], figures["Soft-TIFA GM, at most"]) == score.bounds


def test_a_model_without_probabilities_gives_no_score() -> None:
    (score,) = GenEval2().judge(FakeVLM(["two", "Yes", "Yes", "Yes"])).scores([(SAMPLE, PICTURE)])
    assert score.value is None
    assert "probabilities" in score.reason
    assert score.raw == "two\nYes\nYes\nYes"


@pytest.mark.parametrize("values", [[0.5], [0.5, 2, 0.5], [-1, 0, 0]])
def test_scores_that_do_not_fit_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"score|zip"):
        soft_tifa(LABELS, [(value, value) for value in values])


def certain(*values: float) -> Score:
    return soft_tifa(LABELS, [(value, value) for value in values])


def test_the_figures() -> None:
    scores = (certain(0.25, 1.0, 1.0),), (certain(1.0, 1.0, 0.5), Score(None))
    judged = [Judged(n, "3 atoms", some) for n, some in enumerate(scores, 1)]
    figures = {figure.name: figure.value for figure in GenEval2().figures(judged)}
    gm = (0.25 ** (1 / 3) + 0.5 ** (1 / 3)) / 2
    assert figures["Soft-TIFA GM"] == pytest.approx(gm)
    assert figures["Soft-TIFA AM"] == pytest.approx((0.75 + 2.5 / 3) / 2)
    assert figures["AM, count"] == 0.625
    assert figures["AM, object"] == 0.75
    assert figures["AM, verb"] is None
    assert certain(0.0, 1.0, 1.0).value == 0


class TestAgainstUpstream:
    """Scripted distributions of a first token over a vocabulary of 500."""

    VOCABULARY = 500

    def distribution(self, rng: np.random.Generator, mass: float, right: str) -> dict[str, float]:
        """The right answer's mass over its spellings, and the rest over few other words."""
        forms = spellings(right)
        others = self.VOCABULARY - len(forms)
        split = rng.dirichlet([5.0, 0.5] + [0.05] * (len(forms) - 2))
        rest = rng.dirichlet(np.r_[5.0, 1.0, np.full(others - 2, 1e-3)]) + 1e-12
        words = [*forms, *(f"word {i}" for i in range(others))]
        return dict(zip(words, np.r_[mass * split, (1 - mass) * rest / rest.sum()], strict=True))

    @pytest.mark.parametrize("kind", ["confident", "wrong half", "undecided", "polarised"])
    def test_full_and_top_20_tokens_agree_to_half_a_point(self, kind: str) -> None:
        rng = np.random.default_rng(1)
        draw: dict[str, Callable[[], float]] = {
            "confident": lambda: 1 - 10 ** rng.uniform(-6, -2),
            "wrong half": lambda: (
                1 - 10 ** rng.uniform(-5, -2) if rng.random() < 0.5 else 10 ** rng.uniform(-5, -2)
            ),
            "undecided": lambda: rng.uniform(0.05, 0.95),
            "polarised": lambda: rng.beta(0.3, 0.1),
        }
        upstream, ours = [], {self.VOCABULARY: [], 20: []}  # type: ignore[var-annotated]
        answers = [answer for _, answer in FACTS["vqa_list"]]
        for _ in range(300):
            tokens = [self.distribution(rng, draw[kind](), right) for right in [*answers, "Yes"]]
            sums = [
                sum(some[form] for form in spellings(right))
                for some, right in zip(tokens, answers, strict=False)
            ]
            upstream.append(prod(sums) ** (1 / len(sums)))
            for count, scores in ours.items():
                told = [sorted(some.items(), key=lambda pair: -pair[1])[:count] for some in tokens]
                scores.append(GenEval2().read(SAMPLE, [Reply("", tokens=dict(t)) for t in told]))
        for scores in ours.values():
            mean = sum(score.value for score in scores) / len(scores)
            assert mean == pytest.approx(sum(upstream) / len(upstream), abs=0.005)
            for score, right in zip(scores, upstream, strict=True):
                low, high = score.bounds or (score.value, score.value)
                assert low - 1e-9 <= right <= high + 1e-9


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
    scores = {(1, 0): certain(0.25, 1.0, 1.0), (2, 0): certain(1.0, 1.0, 0.5)}
    pictures = {(1, 0): tmp_path / "1.png"}
    bench.write_results(bench.samples(), scores, pictures, tmp_path)
    paths = json.loads((tmp_path / "image_paths.json").read_text())
    assert paths == {"two green pigs": str(tmp_path.resolve() / "1.png")}
    assert json.loads((tmp_path / "score_lists.json").read_text()) == [[0.25, 1, 1], [1, 1, 0.5]]
    assert bench.read_results(tmp_path / "score_lists.json") == scores


def test_lists_of_scores_are_not_written_with_gaps(bench: GenEval2, tmp_path: Path) -> None:
    bench.write_results(bench.samples(), {(1, 0): Score(None)}, {}, tmp_path)
    assert not (tmp_path / "score_lists.json").exists()
    (tmp_path / "wrong.json").write_text("[[1, 1, 1]]")
    with pytest.raises(SettingsError, match="no list of scores"):
        bench.read_results(tmp_path / "wrong.json")

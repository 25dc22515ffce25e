"""NegGenBench: its file, what its judge is asked, and upstream's answers read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.asked import denied_by
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import find
from npcorrect.evaluation.benchmarks.base import Judged, Sample, Score
from npcorrect.evaluation.benchmarks.neggenbench import PROMPTS, NegGenBench
from npcorrect.evaluation.benchmarks.official_files import NEGGENBENCH
from npcorrect.vlm.fake import FakeVLM

PICTURE = Image.new("RGB", (8, 8))


def rows(count: int = PROMPTS, **changes: Any) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"A tin boat number {n} on a pond.",
            "missing_element": "sails",
            "question_1": "Is there a boat with or without sails?",
            "question_2": "Are the sails missing?",
        }
        | changes
        for n in range(count)
    ]


def bench(folder: Path, content: Any) -> NegGenBench:
    path = folder / NEGGENBENCH.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    made = find("neggenbench", folder)
    assert isinstance(made, NegGenBench)
    return made


def test_the_prompt_says_what_is_to_be_missing(tmp_path: Path) -> None:
    source = bench(tmp_path, rows())
    samples = source.samples()
    assert len(samples) == PROMPTS
    assert samples[0].prompt == "A tin boat number 0 on a pond, but with no sails"
    assert denied_by(samples[0].prompt) == ("sails",)
    claims = source.checklist(samples[0]).requirements
    assert [claim.value for claim in claims] == ["yes", "yes"]
    before = source.checksum()
    assert bench(tmp_path, rows(missing_element="mast")).checksum() != before


@pytest.mark.parametrize(
    "content", [rows(199), rows(prompt=""), [{"prompt": "a"}] * 200, {}, None, "x"]
)
def test_another_file_is_refused(content: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="fetch it again with 'npc bench fetch'"):
        bench(tmp_path, content).samples()


def judged_by(reply: dict[str, Any]) -> Score:
    (row,) = rows(1)
    sample = Sample(1, "missing part", row["prompt"], 0, facts=row)
    vlm = FakeVLM([json.dumps(reply)])
    (score,) = NegGenBench().judge(vlm).scores([(sample, PICTURE)])
    text = vlm.asked[0].messages[-1].text
    assert text.index(row["question_1"]) < text.index(row["question_2"])
    return score


@pytest.mark.parametrize(("first", "second", "value"), [(1, 1, 1), (1, 0, 0), (0, 1, 0)])
def test_a_thing_without_its_part_is_right(first: int, second: int, value: float) -> None:
    reply = {"reasoning": "so", "first": bool(first), "second": bool(second), "quality": 0.9}
    score = judged_by(reply)
    assert (score.value, score.reason) == (value, "so")
    assert dict(score.parts) == {"positive": first, "negative": second, "quality": 0.9}


@pytest.mark.parametrize(
    "changes", [{"first": "true"}, {"second": None}, {"quality": 1.5}, {"quality": True}]
)
def test_what_is_no_answer_is_unscored(changes: dict[str, Any]) -> None:
    reply = {"reasoning": "", "first": True, "second": True, "quality": 1.0}
    score = judged_by(reply | changes)
    assert score.value is None
    assert score.open


def test_upstreams_answers_are_written_and_read_back(tmp_path: Path) -> None:
    answers = [
        {"ans": [n % 10 != 0, n % 2 == 0, 0.5], "reasoning": f"r{n}"} for n in range(2 * PROMPTS)
    ]
    path = tmp_path / "vqa.json"
    path.write_text(json.dumps(answers))
    scores = NegGenBench().read_results(path)
    assert scores[200, 0].reason == "r199"
    assert scores[1, 1].reason == "r200"
    figures = NegGenBench().figures(
        [Judged(n, "missing part", (scores[n, 0], scores[n, 1])) for n in range(1, PROMPTS + 1)]
    )
    values = {figure.name: figure.value for figure in figures}
    assert values == pytest.approx({"negative": 0.5, "positive": 0.9, "quality": 0.5, "right": 0.4})
    assert next(iter(values)) == "negative"

    (row,) = rows(1)
    samples = [
        Sample(n, "missing part", row["prompt"], 0, repeat, row)
        for n in range(1, PROMPTS + 1)
        for repeat in (0, 1)
    ]
    (tmp_path / "again").mkdir()
    NegGenBench().write_results(samples, scores, {}, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "vqa.json").read_text()) == answers


@pytest.mark.parametrize("content", ["[]", "{}", "x", '[{"ans": [true, true, 1]}]'])
def test_other_results_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "vqa.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"vqa\.json"):
        NegGenBench().read_results(path)

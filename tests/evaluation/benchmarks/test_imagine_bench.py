"""Imagine-Bench: the formula, the weights, and upstream's faults beside the right figures."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.evaluation.benchmarks.base import Sample, Score
from npcorrect.evaluation.benchmarks.imagine_bench import (
    ImagineBench,
    parts_in,
    scored,
    upstream_weighted,
    weighted,
)
from npcorrect.vlm.fake import FakeVLM
from tests.evaluation.judged import judged
from tests.evaluation.official_data import needs
from tests.timing import thread_seconds

IMAGINE_HASH = "08c0b82752a0cecedc9f3f248e8ac4d4494166378d9f5a3b66159c240168ba6f"
PICTURE = Image.new("RGB", (8, 8))
SAMPLE = Sample(
    1, "Attribute shift", "A blue monkey.", 0, facts={"id": 1, "note": "The fur must be blue."}
)


@pytest.fixture
def bench() -> ImagineBench:
    return ImagineBench(needs("imagine.jsonl"))


def test_the_official_file(bench: ImagineBench) -> None:
    samples = bench.samples()
    assert [s.id for s in samples] == list(range(1, 271))
    assert Counter(s.tag for s in samples) == {
        "Attribute shift": 90,
        "Hybridization": 60,
        "Spatiotemporal": 60,
        "Multi-Object": 60,
    }


@pytest.mark.parametrize(
    ("parts", "value"),
    [((10, 10, 10), 10), ((8, 3, 5), 3.4), ((3, 8, 5), 3.4), ((0, 0, 10), 2), ((7, 7, 9), 7.4)],
)
def test_a_picture_has_its_weaker_score_and_a_little_beauty(
    parts: tuple[float, float, float], value: float
) -> None:
    assert weighted(*parts) == value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"reason": "good", "fantasy": 8, "identity": 9, "aesthetic": 7}', 7.8),
        ('{"reason": "", "fantasy": 8, "identity": 9}', None),
        ('{"reason": "", "fantasy": 11, "identity": 9, "aesthetic": 7}', None),
        ('{"reason": "", "fantasy": true, "identity": 9, "aesthetic": 7}', None),
        ('{"reason": "", "fantasy": "8", "identity": 9, "aesthetic": 7}', None),
        ("[]", None),
        ("none", None),
    ],
)
def test_what_replies_mean(reply: str, value: float | None) -> None:
    vlm = FakeVLM([reply])
    (score,) = ImagineBench().judge(vlm).scores([(SAMPLE, PICTURE)])
    assert score.value == value
    assert "The fur must be blue." in vlm.asked[0].messages[-1].text
    assert score.raw == reply


def test_the_figure_weighs_the_groups_and_names_upstreams_faults(bench: ImagineBench) -> None:
    """Means 6, 4, 5 and 9: (3*6 + 2*4 + 2*5 + 2*9) / 9 = 6; without the last 36 / 7."""
    first = {tag: next(s.id for s in bench.samples() if s.tag == tag) for tag in
             ("Attribute shift", "Hybridization", "Spatiotemporal", "Multi-Object")}  # fmt: skip
    values = dict(zip(first.values(), (6.0, 4.0, 5.0, 9.0), strict=True))
    scores = {number: [Score(value)] for number, value in values.items()}
    right, printed = bench.figures(judged(bench.samples(), scores))
    assert (right.value, right.fault) == (6.0, "")
    assert printed.value == pytest.approx(36 / 7)
    assert printed.fault

    other = [s.id for s in bench.samples() if s.tag == "Hybridization"][1:3]
    scores[other[0]] = [Score(None, "the judge failed")]
    scores[other[1]] = [Score(None, missing=True)]
    right, printed = bench.figures(judged(bench.samples(), scores))
    assert right.value == 6.0
    assert printed.value == pytest.approx((3 * 6 + 2 * 2 + 2 * 5) / 7), "both faults act"


GOOD = "Fantasy Fulfillment: 8\nReason: x\n\nIdentity Preservation\uff1a9\n\nAesthetic Quality 7"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (GOOD, {"fantasy": 8, "identity": 9, "aesthetic": 7}),
        ("**Fantasy Fulfillment:** 8", {"fantasy": 8}),
        ("**Fantasy Fulfillment**: 10", {"fantasy": 10}),
        ("Aesthetic Quality: 12", {}),
        ("Aesthetic Quality: high", {}),
    ],
)
def test_scores_are_found_in_the_texts_of_upstreams_judge(
    text: str, parts: dict[str, float]
) -> None:
    assert parts_in(text) == parts


def test_upstreams_scores_are_read_back_with_what_its_pattern_missed(
    bench: ImagineBench, tmp_path: Path
) -> None:
    bold = GOOD.replace("Fantasy Fulfillment:", "**Fantasy Fulfillment:**")
    rows = [
        {"id": 1, "type": "Attribute shift", "Weighted Score": 7.8, "evaluation_text": GOOD},
        {"id": 2, "type": "Attribute shift", "Weighted Score": 0.6, "evaluation_text": bold},
        {"id": 3, "type": "Attribute shift", "Weighted Score": 0, "evaluation_text": "failed"},
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    back = bench.read_results(path)
    assert [back[n, 0].value for n in (1, 2, 3)] == [7.8, 7.8, None]
    assert back[3, 0].raw == "failed"
    scores = {n: [score] for (n, _), score in back.items()}
    right, printed = bench.figures(judged(bench.samples(), scores))
    assert right.value == 7.8
    assert printed.value == pytest.approx((7.8 + 0.6 + 0) / 3)


@pytest.mark.parametrize(
    ("text", "value", "upstream"),
    [
        (GOOD, 7.8, 7.8),
        (GOOD.replace("Fantasy Fulfillment:", "**Fantasy Fulfillment:**"), 7.8, 0.6),
        (GOOD.replace("8", "85"), None, 8.6),
        ("failed", None, -1.0),
    ],
)
def test_upstreams_wording_keeps_upstreams_figure_beside_ours(
    text: str, value: float | None, upstream: float
) -> None:
    vlm = FakeVLM([text])
    (score,) = ImagineBench(wording="upstream").judge(vlm).scores([(SAMPLE, PICTURE)])
    assert score.value == value
    assert dict(score.parts)["upstream"] == pytest.approx(upstream)
    (question,) = vlm.asked
    assert (question.schema, question.max_tokens) == (None, 1024)
    user = question.messages[1]
    assert user.encoding is not None
    assert (user.encoding.format, user.encoding.media_type) == ("JPEG", "image/png")
    assert 'PROMPT: "A blue monkey."  \nEXPLANATION: "The fur must be blue."  \n' in user.text


def test_upstreams_messages_are_upstreams_to_the_letter(bench: ImagineBench) -> None:
    """The hash of what its script sent for all prompts, when it was run with a fake client."""
    upstream = replace(bench, wording="upstream")
    texts = [
        [message.text for message in question.messages]
        for sample in upstream.samples()
        for question in upstream.questions(sample, PICTURE)
    ]
    assert sha256(json.dumps(texts).encode()).hexdigest() == IMAGINE_HASH


@pytest.mark.parametrize("text", ["Fantasy Fulfillment" + " " * 100_000, "*" * 100_000])
def test_long_texts_are_read_at_once(text: str) -> None:
    assert (parts_in(text), upstream_weighted(text)) == ({}, -1.0)
    assert thread_seconds(lambda: (parts_in(text), upstream_weighted(text))) < 2


def test_results_are_written_as_upstream_does(bench: ImagineBench, tmp_path: Path) -> None:
    scores = {
        (1, 0): scored({"fantasy": 8, "identity": 9, "aesthetic": 7}, "fine"),
        (2, 0): Score(None, "cut off", "half an ans"),
        (3, 0): Score(None, "there is no picture", missing=True),
    }
    pictures = {(n, 0): tmp_path / "image" / f"{n}.png" for n in (1, 2)}
    bench.write_results(bench.samples()[:3], scores, pictures, tmp_path)
    full = json.loads((tmp_path / "full.json").read_text())
    short = json.loads((tmp_path / "scores.json").read_text())
    assert [row["id"] for row in full] == [row["id"] for row in short] == [1, 2]
    assert [row["Weighted Score"] for row in short] == [7.8, 0]
    assert full[0].keys() == {"id", "instruction", "note", "type", "image_path", "evaluation"}
    back = bench.read_results(tmp_path / "scores.json")
    assert back[1, 0].value == 7.8
    assert back[2, 0].value is None
    assert back[2, 0].raw == "half an ans"

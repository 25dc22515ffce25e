"""What a correction leaves on disk is whole, readable and named as promised."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from npcorrect.errors import OutputError
from npcorrect.output import (
    abridged,
    parameters,
    prepare,
    save_picture,
    save_result,
    sheet,
    to_record,
)
from npcorrect.records import (
    Attempt,
    Candidate,
    Check,
    Checklist,
    Generation,
    Ranked,
    Request,
    Requirement,
    Result,
    Verdict,
)

CLAIM = Requirement("r1", "count", "exactly three circles", "circle", "3")


def attempt(index: int, passed: bool, negative: str | None = None) -> Attempt:
    image = Image.new("RGB", (96, 96), "white" if passed else "black")
    generation = Generation(image, "three circles", negative, 7, 24, 2.0, 1.0, "extra", 24, 48, 0.1)
    ranked = Ranked(Candidate(negative, "targeted"), 0.5) if negative else None
    return Attempt(index, generation, Verdict((Check(CLAIM, passed),)), ranked)


@pytest.fixture
def result() -> Result:
    request = Request("three circles", seed=7)
    attempts = (attempt(0, False), attempt(1, True, "four circles"))
    return Result(request, Checklist("three circles", (CLAIM,)), attempts, best=1)


def test_the_folder_holds_best_sheet_and_result(tmp_path: Path, result: Result) -> None:
    save_result(tmp_path, result)
    assert {p.name for p in tmp_path.iterdir()} == {"best.png", "sheet.png", "result.json"}
    record = json.loads((tmp_path / "result.json").read_text())
    assert record == json.loads(json.dumps(to_record(result)))
    assert record["schema_version"] == 1
    assert record["accepted"] is True
    assert [a["file"] for a in record["attempts"]] == ["original.png", "attempt-1.png"]


def test_pictures_carry_their_parameters(tmp_path: Path, result: Result) -> None:
    generation = result.attempts[1].generation
    save_picture(tmp_path / "a.png", generation)
    with Image.open(tmp_path / "a.png") as image:
        text = image.info["parameters"]
    assert text == parameters(generation)
    lines = text.splitlines()
    assert lines[:2] == ["three circles", "Negative prompt: four circles"]
    assert "Steps: 24, CFG scale: 2.0, Seed: 7, Size: 96x96" in lines[2]


def test_the_sheet_shows_one_picture_when_the_original_is_best(result: Result) -> None:
    alone = Result(result.request, result.checklist, result.attempts[:1], best=0)
    assert sheet(alone).width < sheet(result).width


def test_the_sheet_is_wide_enough_for_its_title(result: Result) -> None:
    request = Request("three circles and " * 8)
    alone = Result(request, result.checklist, result.attempts[:1], best=0)
    assert sheet(alone).width > sheet(result).width


@pytest.mark.parametrize(
    ("negatives", "text"),
    [
        ((), ""),
        (("a",), "a"),
        (("a", "b"), "a, then b"),
        (("a", "b", "c"), "a, then 1 more, then c"),
    ],
)
def test_long_lists_of_negatives_are_abridged(negatives: tuple[str, ...], text: str) -> None:
    assert abridged(negatives) == text


def test_parameters_tell_how_looks_renewed_the_negative(result: Result) -> None:
    steered = replace(result.attempts[1].generation, steering=((4, "a, b"), (8, None)))
    assert 'NPC steering: "4 a, b > 8 none"' in parameters(steered)
    assert "steering" not in parameters(result.attempts[1].generation)


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another with --out"):
        prepare(tmp_path / "file" / "out")

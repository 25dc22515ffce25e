"""A result is written and read back as it was; a damaged one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npcorrect.errors import SettingsError
from npcorrect.records import Request
from npcorrect.result import Result, load_result, to_record
from tests.fakes import FakeViewer, session

REQUEST = Request("three apples", seed=7, candidates=2, ranker="source")


def corrected(*sees: str | None) -> Result:
    correction = session(FakeViewer(sees)).correct(REQUEST)
    for _ in correction:
        pass
    return correction.result


def test_the_folder_holds_what_is_promised(tmp_path: Path) -> None:
    result = corrected("four apples", "")
    result.save(tmp_path)
    names = {"original.png", "attempt-1.png", "best.png", "sheet.png", "result.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    record = json.loads((tmp_path / "result.json").read_text())
    assert record == json.loads(json.dumps(to_record(result)))
    assert (record["outcome"], record["accepted"], record["best"]) == ("corrected", True, 1)
    assert record["attempts"][0]["verdict"]["checks"][1]["fault"] == (
        "asked exactly three apples, saw four apples"
    )
    assert record["made_with"]["load"]["model"] == "mini"
    assert record["made_with"]["versions"]["npcorrect"]


def test_it_is_read_back_as_it_was(tmp_path: Path) -> None:
    result = corrected("four apples", "five apples")
    result.save(tmp_path)
    for place in (tmp_path, tmp_path / "result.json"):
        loaded = load_result(place)
        assert json.dumps(to_record(loaded)) == json.dumps(to_record(result))
        for old, new in zip(result.attempts, loaded.attempts, strict=True):
            assert old.generation.image.tobytes() == new.generation.image.tobytes()


@pytest.mark.parametrize(
    ("sees", "outcome"),
    [
        ([""], "accepted"),
        (["four apples", ""], "corrected"),
        (["four apples"], "not accepted"),
        (["four apples", None], "not accepted"),
        ([None], "unscored"),
    ],
)
def test_an_outcome_is_one_of_four(sees: list[str | None], outcome: str) -> None:
    assert corrected(*sees).outcome == outcome


def test_a_picture_does_not_tell_who_judged_it(tmp_path: Path) -> None:
    from npcorrect.files import RECORD, picture_texts

    corrected("four apples").save(tmp_path)
    record = json.loads(picture_texts(tmp_path / "best.png")[RECORD])
    assert record["made_with"]["roles"] == {}
    assert "verdict" not in json.dumps(record)


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(record: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            record = record[int(name) if name.isdigit() else name]
        record[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("schema_version", 3), "it has version 3, not 4"),
        (_set("attempts", None), "no list"),
        (_set("attempts.1.index", 7), "index 7"),
        (_set("attempts.1.index", "../../x"), "index"),
        (_set("attempts.0.cost.seconds", "long"), "a value is damaged"),
        (_set("attempts.0.generation.window", [1]), "a value is damaged"),
        (_set("attempts.0.verdict", None), "a value is damaged"),
        (_set("checklist", 3), "a value is damaged"),
        (_set("request.candidates", "many"), "a value is damaged"),
        (_set("ended", "bored"), "a value is damaged"),
    ],
)
def test_a_damaged_record_is_one_sentence(
    change: Callable[[dict[str, Any]], None], says: str, tmp_path: Path
) -> None:
    corrected("four apples").save(tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    change(record)
    (tmp_path / "result.json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=says):
        load_result(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 99_999, '{"schema_version": NaN}'])
def test_what_is_no_record_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(SettingsError, match="cannot be read") as caught:
        load_result(tmp_path)
    assert "indices" not in str(caught.value)


def test_a_missing_picture_is_one_sentence(tmp_path: Path) -> None:
    corrected("four apples").save(tmp_path)
    (tmp_path / "attempt-1.png").unlink()
    with pytest.raises(SettingsError, match=r"attempt-1\.png"):
        load_result(tmp_path)


@pytest.mark.parametrize("place", ["", " ", "a\0b", b"out", 5, None])
def test_what_is_no_path_is_one_sentence(place: Any) -> None:
    correction = session().correct(Request("three apples", candidates=0))
    list(correction)
    for use in (correction.result.save, load_result):
        with pytest.raises(SettingsError, match="it is no path; name a file or a folder"):
            use(place)

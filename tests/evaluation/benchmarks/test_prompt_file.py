"""The user's own prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import find
from npcorrect.evaluation.benchmarks.base import Judged, Score
from npcorrect.evaluation.benchmarks.prompt_file import PromptFile
from npcorrect.vlm.fake import FakeVLM

PICTURE = Image.new("RGB", (8, 8))


def write(tmp_path: Path, name: str, text: str) -> PromptFile:
    (tmp_path / name).write_text(text, encoding="utf-8")
    source = find(str(tmp_path / name))
    assert isinstance(source, PromptFile)
    return source


def test_a_text_file_has_a_prompt_on_each_line(tmp_path: Path) -> None:
    source = write(tmp_path, "p.txt", "\ufeffa cat\n\n  two dogs \r\na\u2028b\n")
    assert [s.prompt for s in source.samples()] == ["a cat", "two dogs", "a\u2028b"]
    assert [s.id for s in source.samples()] == [1, 2, 3]
    assert source.picture_names(source.samples()[1])[0] == "2.png"


def test_the_fields_of_jsonl_and_csv_are_the_same(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a red bus", "id": "bus-1", "tag": "colour",
         "include": [{"class": "bus", "color": "red"}]},
        {"prompt": "no dog, a cat", "id": 7, "questions": [["Is there a dog?", "No"], "A cat?"]},
    ]  # fmt: skip
    text = "\n".join(map(json.dumps, rows))
    source = write(tmp_path, "p.jsonl", text)
    quoted = [json.dumps(rows[0]["include"]), json.dumps(rows[1]["questions"])]
    cells = [one.replace('"', '""') for one in quoted]
    table = (
        "id,prompt,tag,include,questions\n"
        f'bus-1,a red bus,colour,"{cells[0]}",\n7,"no dog, a cat",,,"{cells[1]}"\n'
    )
    other = write(tmp_path, "p.csv", table)
    assert source.samples() == other.samples()
    assert [s.facts for s in source.samples()] == [s.facts for s in other.samples()]
    bus, cat = source.samples()
    assert (bus.tag, cat.tag, cat.facts["name"]) == ("colour", "all", "7")
    assert [c.kind for c in source.checklist(bus).requirements] == ["object", "count", "attribute"]
    assert [c.text for c in source.checklist(cat).requirements] == [
        "Is there a dog? no", "A cat? yes"
    ]  # fmt: skip


def test_a_picture_is_right_when_all_is_as_it_should_be(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "questions": [["Is there a dog?", "no"], "A cat?"]}, {"prompt": "y"}]
    source = write(tmp_path, "p.jsonl", "\n".join(map(json.dumps, rows)))
    asked, plain = source.samples()
    vlm = FakeVLM(["no", "yes", "no", "no", '{"correct": 1, "reason": "there"}'])
    pictures = [(asked, PICTURE), (asked, PICTURE), (plain, PICTURE)]
    scores = source.judge(vlm).scores(pictures)
    assert [score.value for score in scores] == [1.0, 0.0, 1.0]
    assert scores[1].reason == "A cat? yes"
    assert "Instruction:\ny" in vlm.asked[-1].messages[-1].text
    with pytest.raises(SettingsError, match="npc-oracle"):
        source.checklist(plain)


def test_the_figures_need_no_file() -> None:
    some = [
        Judged(1, "a", (Score(1.0),)),
        Judged(2, "a", (Score(1.0),)),
        Judged(3, "b", (Score(0.0),)),
    ]
    share, tags = PromptFile(Path("gone.txt")).figures(some)
    assert (share.value, tags.value) == (2 / 3, 0.5)
    assert len(PromptFile(Path("gone.txt")).figures(some[:2])) == 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("p.txt", "\n \n", "has no prompt"),
        ("p.jsonl", '{"prompt": ""}', "Row 1"),
        ("p.jsonl", '{"prompt": "x"}\n[1]', "Line 2"),
        ("p.jsonl", '{"prompt": "x", "id": "../y"}', "Row 1"),
        ("p.jsonl", '{"prompt": "x", "id": 1}\n{"prompt": "y", "id": "1"}', "more than once"),
        ("p.jsonl", '{"prompt": "x", "questions": [["q", "maybe"]]}', "yes or no"),
        ("p.jsonl", '{"prompt": "x", "include": [{"count": 2}]}', "Row 1"),
        ("p.jsonl", '{"prompt": "x", "include": [{"class": "a", "count": -3}]}', "Row 1"),
        ("p.csv", "text\nx\n", "no column prompt"),
        ("p.csv", "prompt,include\nx,{\n", "no JSON"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, text: str, says: str, tmp_path: Path) -> None:
    source = write(tmp_path, name, text)
    with pytest.raises(SettingsError, match=says):
        source.samples()


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no file"):
        find(str(tmp_path / "none.txt")).samples()
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        find(str(tmp_path / "p.txt")).samples()
    with pytest.raises(SettingsError, match="unknown"):
        find("prompts.docx")
    with pytest.raises(SettingsError, match="Upstream's wording"):
        find("mini", wording="upstream")

"""Files of prompts are read as people write them; what is not understood is one sentence."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from npcorrect.errors import SettingsError
from npcorrect.prompts import Job, parsed, read_jobs, texts_of
from npcorrect.records import Request
from npcorrect.settings import DrawSettings
from tests.fakes import session
from tests.timing import thread_seconds

DRAW = DrawSettings(candidates=3, seed=5)


def jobs(tmp_path: Path, text: str | bytes, name: str = "p.txt", **more: Any) -> tuple[Job, ...]:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_jobs(path, more.get("images"), more.get("draw", DRAW))


def test_one_prompt_a_line(tmp_path: Path) -> None:
    read = jobs(tmp_path, "\ufefftwo bananas\r\n\n  a [/] $$ {x|y} cat \u2028 here\n#3 jersey\n")
    assert [job.request.prompt for job in read] == [
        "two bananas", "a [/] $$ {x|y} cat \u2028 here", "#3 jersey",
    ]  # fmt: skip
    assert [job.number for job in read] == [1, 2, 3]
    assert {(job.request.candidates, job.request.seed) for job in read} == {(3, 5)}


def test_lines_of_a1111(tmp_path: Path) -> None:
    line = "--prompt a cat's hat, (red:1.2) --seed 7 --steps 12 --cfg_scale 2.5 --width 64"
    (job,) = jobs(tmp_path, line)
    request = job.request
    assert request.prompt == "a cat's hat, (red:1.2)"
    assert (request.seed, request.steps, request.scale, request.width) == (7, 12, 2.5, 64)
    quoted = '--prompt "two -- bananas" --seed 1'
    assert jobs(tmp_path, quoted)[0].request.prompt == "two -- bananas"


def test_a_negative_prompt_of_a1111_is_a_setting_like_any_other() -> None:
    line = "--prompt a castle --negative_prompt trees, shrubs --seed 3"
    ((_, values),) = parsed(line, "p")
    assert values == {"prompt": "a castle", "negative-prompt": "trees, shrubs", "seed": 3}


def test_lines_of_json(tmp_path: Path) -> None:
    lines = [
        {"prompt": "a\nb", "seed": 9, "negative_scale": 2.0, "keep": True},
        {"prompt": "{x}", "negative": "0.2..0.7", "rule": "extra"},
    ]
    first, second = jobs(tmp_path, "\n".join(map(json.dumps, lines)), "p.jsonl")
    assert (first.request.prompt, first.request.seed) == ("a\nb", 9)
    assert (first.request.negative_scale, first.request.fresh) == (2.0, False)
    assert (second.request.negative, second.request.rule) == ("0.2..0.7", "extra")


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        ({"fresh": True, "keep": True}, "'keep' sets 'fresh' again"),
        ({"negative-scale": 1.0, "negative_scale": 2.0}, "sets 'negative-scale' again"),
    ],
)
def test_what_a_line_says_twice_is_refused(
    said: dict[str, Any], refusal: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=f"line 1: .*{refusal}"):
        jobs(tmp_path, json.dumps({"prompt": "a"} | said), "p.jsonl")


def test_a_table_of_pictures(tmp_path: Path) -> None:
    text = 'file,prompt,seed,fresh\na.png,"one, two",4,true\nsub/b.jpg,three,,\n'
    first, second = jobs(tmp_path, text, "t.csv", images=tmp_path / "pictures")
    assert first.image == tmp_path / "pictures" / "a.png"
    assert (first.request.prompt, first.request.seed, first.request.fresh) == ("one, two", 4, True)
    assert (second.image, second.request.seed) == (tmp_path / "pictures" / "sub/b.jpg", 5)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"two bananas\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    (job,) = read_jobs(Path("-"), None, DRAW)
    assert job.request.prompt == "two bananas"


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "p.txt", "has no prompt"),
        (b"caf\xe9", "p.txt", "no UTF-8"),
        ('{"prompt": 3}', "p.txt", "line 1: there is no 'prompt'"),
        ('{"prompt": "x", "sed": 3}', "p.txt", "no setting 'sed'; did you mean seed"),
        ('x\n{"prompt": "x", "seed": "3"}', "p.txt", "line 2: The setting 'seed' is '3'"),
        ('{"prompt": "x"', "p.txt", "line 1 is no JSON"),
        ("x", "p.jsonl", "line 1 is no JSON"),
        ("[1]", "p.jsonl", "no JSON object"),
        ('{"prompt": "x", "scale": NaN}', "p.jsonl", "NaN is no number"),
        ("--seed 3", "p.txt", "there is no 'prompt'"),
        ("-- x", "p.txt", "write --prompt"),
        ("--prompt x --seed y", "p.txt", "'seed' is 'y'"),
        ("--prompt x --seed -1", "p.txt", "'seed' is -1; give a whole number, at least 0"),
        ("--prompt x --hr_scale 2", "p.txt", "no setting 'hr-scale'"),
        ("prompt,seed\na,b,c", "p.csv", "has 3 cells"),
        ("prompt, Prompt\na,b", "p.csv", "two columns 'prompt'"),
        ("file\na.png", "p.csv", "there is no 'prompt'"),
        ('prompt,image\n"x', "p.csv", "no picture|cannot be read"),
    ],
)
def test_what_is_not_understood_is_one_sentence(
    text: str | bytes, name: str, says: str, tmp_path: Path
) -> None:
    images = tmp_path if "no picture" in says else None
    with pytest.raises(SettingsError, match=says):
        jobs(tmp_path, text, name, images=images)


@settings(max_examples=200)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet="-{}\"' \tpromts=,:3\n"),
        st.builds("--prompt {} --seed {}".format, st.text(), st.text()),
        st.builds(json.dumps, st.dictionaries(st.text(), st.integers() | st.text() | st.none())),
    ),
    st.sampled_from(["", ".csv", ".tsv", ".jsonl"]),
)
def test_no_file_raises_anything_else(text: str, suffix: str) -> None:
    with suppress(SettingsError):
        for place, values in parsed(text, "p", suffix):
            assert place.startswith("p, line ")
            assert all(isinstance(name, str) for name in values)


def test_long_lines_are_read_in_time() -> None:
    def read(text: str) -> None:
        with suppress(SettingsError):
            list(parsed(text, "p"))

    for text in (" " * 300_000 + "x", "--" + " " * 300_000, "--a " * 75_000, "{" + " " * 300_000):
        assert thread_seconds(partial(read, text)) < 5


def _picture(path: Path, text: str | None) -> None:
    info = PngInfo()
    if text is not None:
        info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        ("two bananas\nNegative prompt: x, y\nz\nSteps: 3, Seed: 1", "two bananas", "x, y\nz"),
        ("two bananas\nNegative prompt: x", "two bananas", "x"),
        ("two\nstars\nSteps: 3", "two\nstars", None),
        ("two bananas", "two bananas", None),
        ("Steps: 3", None, None),
        (None, None, None),
    ],
)
def test_a_picture_brings_its_prompt_and_negative(
    text: str | None, prompt: str | None, negative: str | None, tmp_path: Path
) -> None:
    _picture(tmp_path / "a.png", text)
    texts = texts_of(tmp_path / "a.png")
    assert (texts.get("prompt"), texts.get("negative-prompt")) == (prompt, negative)
    if prompt:
        (job,) = read_jobs(None, tmp_path, DRAW)
        assert (job.request.prompt, job.request.negative_prompt) == (prompt, negative)


def test_our_own_picture_brings_the_users_negative_and_not_what_was_tried(tmp_path: Path) -> None:
    asked = Request("three apples", negative_prompt="lowres", candidates=1, ranker="source")
    correction = session().correct(asked)
    assert [attempt.index for attempt in correction] == [0, 1]
    correction.result.save(tmp_path)
    assert texts_of(tmp_path / "attempt-1.png") == {
        "prompt": "three apples", "negative-prompt": "lowres",
    }  # fmt: skip


def test_lines_of_other_programs_bring_the_negative(tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text(
        "--prompt a castle --negative_prompt trees, shrubs --seed 7\n"
        '{"prompt": "a cat", "negative_prompt": ""}\n'
        '--prompt a dog --negative_prompt " "\n'
    )
    negatives = [job.request.negative_prompt for job in read_jobs(lines, None, DRAW)]
    assert negatives == ["trees, shrubs", "", " "]


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    _picture(tmp_path / "b.png", "two bananas\nSteps: 3")
    _picture(tmp_path / "a.png", "one banana\nSteps: 3")
    (tmp_path / "notes.txt").write_text("x")
    read = read_jobs(None, tmp_path, DRAW)
    assert [(job.image and job.image.name, job.request.prompt) for job in read] == [
        ("a.png", "one banana"), ("b.png", "two bananas"),
    ]  # fmt: skip
    _picture(tmp_path / "c.png", None)
    with pytest.raises(SettingsError, match=r"c\.png' has no prompt in it"):
        read_jobs(None, tmp_path, DRAW)

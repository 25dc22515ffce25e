"""Many prompts: each in its folder, none lost, none done twice, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect import batch as module
from npcorrect.batch import Batch, Row, folder_name, page, shard
from npcorrect.errors import BudgetError, InputError, NpcError, OutputError, VLMError
from npcorrect.prompts import Job
from npcorrect.records import Drawing, Request
from npcorrect.session import Session, SessionSettings
from npcorrect.settings import LoadSettings
from npcorrect.workers import Pool
from tests.fakes import FakeViewer, session
from tests.test_output import Killed

PROMPTS = ("three red apples", "two green bananas", "one blue clock", "two pink clocks")


def jobs(*prompts: str, **settings: Any) -> tuple[Job, ...]:
    return tuple(
        Job(n, Request(prompt, candidates=2, ranker="source", **settings), f"line {n}")
        for n, prompt in enumerate(prompts or PROMPTS, 1)
    )


@dataclass
class World:
    """Opens sessions of fakes, and counts what is drawn in them."""

    viewer: FakeViewer = field(default_factory=lambda: FakeViewer([""]))
    opened: int = 0
    drawn: list[str] = field(default_factory=list)
    on_draw: Callable[[Drawing], object] = lambda drawing: None

    @contextmanager
    def open(self, settings: SessionSettings) -> Iterator[Session]:
        self.opened += 1

        def note(drawing: Drawing) -> None:
            self.on_draw(drawing)
            self.drawn.append(drawing.prompt)

        yield session(self.viewer, on_draw=note, settings=settings)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(module, "open_session", made.open)
    return made


def run(
    out: Path, todo: Sequence[Job] | None = None, part: str = "1/1", overwrite: bool = False
) -> Batch:
    every = jobs() if todo is None else todo
    made = Batch(every, SessionSettings(), out, overwrite)
    made.run(shard(every, part), lambda event: None, lambda row: None)
    return made


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_every_prompt_has_its_folder_its_line_and_its_card(tmp_path: Path, world: World) -> None:
    world.viewer = FakeViewer(["", "four apples", "", "four apples"])
    run(tmp_path)
    assert world.opened == 1
    assert [line["outcome"] for line in lines(tmp_path)] == [
        "accepted", "corrected", "not accepted", "not accepted",
    ]  # fmt: skip
    corrected = lines(tmp_path)[1]
    assert corrected["folder"] == "0002-two-green-bananas"
    assert corrected["wrong"] == ["asked exactly three apples, saw four apples"]
    assert (corrected["left"], corrected["negatives"]) == ([], ["4 apples"])
    for line in lines(tmp_path):
        names = {path.name for path in (tmp_path / line["folder"]).iterdir()}
        assert {"result.json", "best.png", "sheet.png", "original.png", line["best"]} <= names
        assert f'src="{line["folder"]}/{line["best"]}"' in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("dies", range(1, 8))
def test_a_killed_batch_goes_on_where_it_was(dies: int, tmp_path: Path, world: World) -> None:
    world.viewer = FakeViewer(["four apples"])

    def on_draw(drawing: Drawing) -> None:
        if len(world.drawn) == dies - 1:
            raise Killed

    world.on_draw = on_draw
    with pytest.raises(Killed):
        run(tmp_path, jobs(*PROMPTS[:3]))
    before = len(world.drawn)
    world.on_draw = lambda drawing: None
    run(tmp_path, jobs(*PROMPTS[:3]))
    assert [line["attempts"] for line in lines(tmp_path)] == [3, 3, 3]
    assert len(world.drawn) == 9
    assert before == dies - 1


def test_what_is_finished_loads_no_model(tmp_path: Path, world: World) -> None:
    run(tmp_path)
    (tmp_path / "results.jsonl").write_text('{"torn')
    (tmp_path / "index.html").unlink()
    run(tmp_path)
    assert world.opened == 1
    assert len(lines(tmp_path)) == 4
    assert (tmp_path / "index.html").exists()


def test_shards_share_a_folder_and_make_a_whole(tmp_path: Path, world: World) -> None:
    run(tmp_path, part="2/3")
    assert [line["number"] for line in lines(tmp_path)] == [2]
    run(tmp_path, part="1/3")
    assert [line["number"] for line in lines(tmp_path)] == [1, 2, 4]
    run(tmp_path)
    assert world.drawn == [PROMPTS[1], PROMPTS[0], PROMPTS[3], PROMPTS[2]]


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2", "1/2/3", "9" * 99])
def test_a_part_that_is_none_is_refused(part: str) -> None:
    with pytest.raises(InputError, match="--shard is"):
        shard(jobs(), part)


def test_shards_are_parts() -> None:
    parts = [shard(jobs(), f"{n}/3") for n in (1, 2, 3)]
    assert sorted(job.number for part in parts for job in part) == [1, 2, 3, 4]


def test_every_line_is_checked_before_a_model_is_loaded(tmp_path: Path, world: World) -> None:
    wrong = jobs("one banana", "two lamps", "three bananas", "")
    with pytest.raises(InputError, match=r"line 2: .*'lamps'.*\(and 1 more\)"):
        run(tmp_path / "out", wrong)
    with pytest.raises(InputError, match="line 1: The size 100"):
        run(tmp_path / "out", jobs("one banana", size=100))
    assert world.opened == 0
    assert not (tmp_path / "out").exists()


def test_another_files_folder_is_refused(tmp_path: Path, world: World) -> None:
    run(tmp_path, jobs("one banana"))
    with pytest.raises(OutputError, match="another request"):
        run(tmp_path, jobs("one banana", seed=3))
    assert world.opened == 1
    run(tmp_path, jobs("one banana", seed=3), overwrite=True)
    assert [line["seed"] for line in lines(tmp_path)] == [3]


def test_one_prompt_that_fails_does_not_stop_the_others(tmp_path: Path, world: World) -> None:
    def on_draw(drawing: Drawing) -> None:
        if drawing.prompt == PROMPTS[1]:
            raise NpcError("no memory")

    world.on_draw = on_draw
    run(tmp_path)
    assert [line["outcome"] for line in lines(tmp_path)] == [
        "accepted", "failed", "accepted", "accepted",
    ]  # fmt: skip
    assert lines(tmp_path)[1]["error"] == "no memory"
    world.on_draw = lambda drawing: None
    run(tmp_path)
    assert {line["outcome"] for line in lines(tmp_path)} == {"accepted"}
    assert world.drawn.count(PROMPTS[0]) == 1


def test_failures_in_a_row_end_the_batch(tmp_path: Path, world: World) -> None:
    def on_draw(drawing: Drawing) -> None:
        raise NpcError("the device is gone")

    world.on_draw = on_draw
    with pytest.raises(NpcError, match="3 prompts in a row failed, the last: the device is gone"):
        run(tmp_path)
    assert len(lines(tmp_path)) == 3


def test_a_spent_budget_ends_the_batch_and_more_continues_it(tmp_path: Path, world: World) -> None:
    class Spent(FakeViewer):
        def verify(self, image: Any, checklist: Any) -> Any:
            raise BudgetError("The budget is used up.")

    world.viewer = Spent()
    with pytest.raises(VLMError, match="budget is spent at line 1"):
        run(tmp_path)
    world.viewer = FakeViewer([""])
    run(tmp_path)
    assert {line["outcome"] for line in lines(tmp_path)} == {"accepted"}


def test_pictures_that_exist_are_corrected(tmp_path: Path, world: World) -> None:
    Image.new("RGB", (192, 192), "blue").save(tmp_path / "a.png")
    world.viewer = FakeViewer(["four apples", ""])
    todo = (Job(1, Request("one banana", candidates=2), "a.png", tmp_path / "a.png"),)
    run(tmp_path / "out", todo)
    with Image.open(tmp_path / "out/0001-one-banana/original.png") as kept:
        assert kept.getpixel((0, 0)) == (0, 0, 255)
    assert len(world.drawn) == 1


def test_a_picture_of_another_size_is_refused_before_a_model_is_loaded(
    tmp_path: Path, world: World
) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    todo = (Job(1, Request("one banana"), "a.png", tmp_path / "a.png"),)
    with pytest.raises(InputError, match="size 100"):
        run(tmp_path / "out", todo)
    assert world.opened == 0


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("three red apples", "0001-three-red-apples"),
        ("../../etc/passwd", "0001-etc-passwd"),
        ("三个", "0001"),
        ("x" * 9999, "0001-" + "x" * 40),
        ("CON", "0001-con"),
    ],
)
def test_folders_have_harmless_names(prompt: str, name: str) -> None:
    assert folder_name(Job(1, Request(prompt), "")) == name


class Tags(HTMLParser):
    """Counts tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1


def test_the_page_takes_no_text_for_markup() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=y>\"'"
    made = page(
        [
            Row(
                number=1, folder="0001", prompt=evil, seed=1, outcome="corrected", score=1.0,
                wrong=(evil,), negatives=(evil, "b"), original="original.png",
                best="attempt-1.png", error=evil,
            ),
            Row(number=2, folder="0002", prompt=evil, seed=1, outcome="failed", error=evil),
        ],
        3,
    )  # fmt: skip
    tags = Tags(made).counts
    assert "script" not in tags
    assert (tags["img"], tags["figure"]) == (2, 2)
    assert "2 of 3 prompts" in made
    assert "http" not in made


def test_a_model_that_cannot_be_judged_is_refused(tmp_path: Path, world: World) -> None:
    wrong = Batch(jobs(), SessionSettings(load=LoadSettings(model="nowhere")), tmp_path)
    with pytest.raises(InputError, match="There is no model"):
        wrong.run(wrong.jobs, lambda event: None, lambda row: None)


@contextmanager
def mortal(settings: SessionSettings, *, graves: Path) -> Iterator[Session]:
    """A session that ends its own process at the second picture of the second prompt, once."""

    def on_draw(drawing: Drawing) -> None:
        grave = graves / "dead"
        if drawing.prompt == PROMPTS[1] and drawing.negative_prompt and not grave.exists():
            grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    yield session(FakeViewer(["four apples"]), on_draw=on_draw, settings=settings)


@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed (npcorrect[ray]).")
def test_workers_leave_what_one_leaves_even_where_one_is_killed(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.viewer = FakeViewer(["four apples"])
    run(tmp_path / "one")
    monkeypatch.setattr(module, "open_session", partial(mortal, graves=tmp_path))
    told: list[int] = []
    batch = Batch(jobs(), SessionSettings(), tmp_path / "two")
    batch.run(jobs(), lambda event: None, lambda row: told.append(row.number), Pool(2))
    assert (tmp_path / "dead").exists()
    assert sorted(told) == [1, 2, 3, 4]

    def without_time(line: dict[str, Any]) -> dict[str, Any]:
        return line | {"seconds": 0.0}

    one, two = (list(map(without_time, lines(tmp_path / name))) for name in ("one", "two"))
    assert one == two
    pages = ((tmp_path / name / "index.html").read_text() for name in ("one", "two"))
    first, second = (re.sub(r"[0-9.]+ s<", "<", text) for text in pages)
    assert first == second
    for line in one:
        best = Path(line["folder"], line["best"])
        pictures = (Image.open(tmp_path / name / best).tobytes() for name in ("one", "two"))
        assert len(set(pictures)) == 1

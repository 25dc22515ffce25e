"""An output folder holds one correction: claimed, continued, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.diffusion.fake import FAKE_DEFAULTS
from npcorrect.errors import OutputError, SettingsError
from npcorrect.output import LOCK, OutputFolder, correct_into
from npcorrect.records import Request
from npcorrect.result import Result, load_result, to_record
from npcorrect.session import SessionSettings
from npcorrect.settings import LoadSettings, RoleSettings
from tests.fakes import FakeViewer, session

REQUEST = Request(
    "three apples", candidates=4, ranker="source", rule="extra", strength=0.5, looks=0
)
SETTINGS = SessionSettings()


class Killed(BaseException):
    """Ends everything, as a signal would."""


def folder(path: Path, request: Request = REQUEST, **more: Any) -> OutputFolder:
    return OutputFolder(path, request, SETTINGS, **more)


def corrected(one: OutputFolder, *sees: str | None, dies: int | None = None) -> Result:
    """Correct into a folder; at drawing number ``dies`` the process is killed."""
    drawn = []

    def on_draw(drawing: object) -> None:
        drawn.append(drawing)
        if len(drawn) == dies:
            raise Killed

    opened = session(FakeViewer(sees or ("four apples",)), on_draw=on_draw)
    with one.claimed() as begun:
        return correct_into(one, begun, opened)


def contents(path: Path) -> dict[str, Any]:
    """All files but the lock; the record without the clock and what proposing again took."""
    files: dict[str, Any] = {p.name: p.read_bytes() for p in path.iterdir() if p.name != LOCK}
    record = json.loads(files["result.json"])
    for cost in (record["cost"], *(attempt["cost"] for attempt in record["attempts"])):
        cost["seconds"] = cost["readings"] = 0
    return files | {"result.json": record}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Any]]:
    """What a correction by a batch size leaves that nothing disturbs."""

    @cache
    def contents_of(batch: int) -> dict[str, Any]:
        path = tmp_path_factory.mktemp("whole")
        corrected(folder(path, replace(REQUEST, batch=batch)))
        return contents(path)

    return contents_of


@pytest.mark.parametrize("dies", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_killed_correction_is_continued_and_ends_as_an_undisturbed_one(
    dies: int, batch: int, tmp_path: Path, whole: Callable[[int], dict[str, Any]]
) -> None:
    request = replace(REQUEST, batch=batch)
    with pytest.raises(Killed):
        corrected(folder(tmp_path / "cut", request), dies=dies)
    assert folder(tmp_path / "cut", request).state() == ("begun" if dies > 1 else "new")
    corrected(folder(tmp_path / "cut", request))
    assert contents(tmp_path / "cut") == whole(batch)


@pytest.mark.parametrize("write", range(1, 24))
def test_killed_at_any_write_it_is_continued_and_ends_as_an_undisturbed_one(
    write: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: Callable[[int], dict[str, Any]],
) -> None:
    replaced = []

    def dying(source: str, target: Path) -> None:
        replaced.append(target)
        if len(replaced) == write:
            raise Killed
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", dying)
        with pytest.raises(Killed):
            corrected(folder(tmp_path / "cut"))
    corrected(folder(tmp_path / "cut"))
    assert contents(tmp_path / "cut") == whole(REQUEST.batch)


@pytest.mark.parametrize("known", range(1, 7))
def test_it_goes_on_at_the_end_of_a_batch_also_where_no_negative_acts(
    known: int, tmp_path: Path
) -> None:
    defaults = replace(FAKE_DEFAULTS, fresh_from=2, seeds_suffice=frozenset({"count"}))
    request = replace(REQUEST, rule=None, candidates=6, strength=1.0, batch=2)
    correction = session(defaults=defaults).correct(request)
    list(correction)  # batches: the negative's, then pairs without one: 1 | 2 3 | 4 5 | 6
    kept = replace(correction.result, attempts=correction.result.attempts[:known], ended=None)
    kept.save(tmp_path)
    with folder(tmp_path, request).claimed() as begun:
        assert len(begun.attempts) == {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 6}[known]


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".best.png.x1y2").write_bytes(b"half")
    with folder(tmp_path).claimed():
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_what_is_continued_is_not_drawn_or_asked_again(tmp_path: Path) -> None:
    one = folder(tmp_path / "out")
    with pytest.raises(Killed):
        corrected(one, dies=4)
    viewer = FakeViewer()
    opened = session(viewer)
    with one.claimed() as begun:
        correct_into(one, begun, opened)
    assert [len(begun.attempts), len(viewer.asked)] == [3, 2]
    # The original is drawn again for its latents, of which no file tells.
    assert opened.model.drawn == [(0, None), (0, "6 apples"), (0, "7 apples")]  # type: ignore[attr-defined]


def test_each_attempt_is_on_disk_before_the_next_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        corrected(folder(tmp_path), dies=3)
    kept = load_result(tmp_path)
    assert len(kept.attempts) == 2
    assert kept.ended is None


def test_an_unscored_correction_is_asked_again(tmp_path: Path) -> None:
    assert corrected(folder(tmp_path), None).ended == "unscored"
    assert corrected(folder(tmp_path), "four apples", "").outcome == "corrected"


def test_a_finished_correction_is_refused(tmp_path: Path) -> None:
    corrected(folder(tmp_path), "")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"finished.*--overwrite"):
        corrected(folder(tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "other",
    [
        OutputFolder(Path(), replace(REQUEST, prompt="two apples"), SETTINGS),
        OutputFolder(Path(), replace(REQUEST, seed=1), SETTINGS),
        OutputFolder(
            Path(), REQUEST, SessionSettings(load=LoadSettings(model="mini", dtype="bfloat16"))
        ),
        OutputFolder(Path(), REQUEST, SessionSettings(roles=RoleSettings(votes=3))),
        OutputFolder(Path(), REQUEST, SETTINGS, Image.new("RGB", (16, 16))),
    ],
)
def test_another_request_is_refused(other: OutputFolder, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        corrected(folder(tmp_path), dies=3)
    with (
        pytest.raises(OutputError, match=r"another.*--overwrite"),
        replace(other, path=tmp_path).claimed(),
    ):
        pass


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (replace(REQUEST, prompt="two apples"), repr(REQUEST.prompt)),
        (replace(REQUEST, seed=1, batch=2), "seed 0, not 1; batch 1, not 2"),
        (replace(REQUEST, scale=3.0), "scale by default, not 3.0"),
    ],
)
def test_a_refusal_says_what_differs(other: Request, says: str, tmp_path: Path) -> None:
    corrected(folder(tmp_path), "")
    with pytest.raises(OutputError) as refused:
        folder(tmp_path, other).refuse_finished()
    assert says in str(refused.value)


@pytest.mark.parametrize("text", ["{", '{"schema_version": 2}', "[]"])
def test_a_record_that_cannot_be_read_can_be_overwritten(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(SettingsError, match=r"cannot be read.*--overwrite it\.$"):
        folder(tmp_path).state()
    with folder(tmp_path).claimed(overwrite=True) as begun:
        assert begun.attempts == ()


def test_more_budget_is_no_other_request(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        corrected(folder(tmp_path), dies=3)
    richer = SessionSettings(roles=RoleSettings(budget="900 calls", cache=False))
    with OutputFolder(tmp_path, REQUEST, richer).claimed() as begun:
        assert len(begun.attempts) == 2


def test_overwriting_leaves_nothing_of_another_run(tmp_path: Path) -> None:
    corrected(folder(tmp_path))
    other = folder(tmp_path, replace(REQUEST, prompt="two apples"))
    with other.claimed(overwrite=True) as begun:
        assert (tmp_path / "attempt-4.png").exists()  # until there is something in its place
        correct_into(other, begun, session(FakeViewer([""])))
    assert {*contents(tmp_path)} == {"original.png", "best.png", "sheet.png", "result.json"}


def test_pictures_without_a_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "best.png").mkdir()
    with pytest.raises(OutputError, match=r"has a best\.png that no record tells of"):
        folder(tmp_path).state()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        folder(tmp_path).claimed(),
        pytest.raises(OutputError, match="Another process writes"),
        folder(tmp_path).claimed(),
    ):
        pass
    with folder(tmp_path).claimed():
        pass


def test_an_original_is_recognised_when_a_correction_is_continued(tmp_path: Path) -> None:
    request = replace(REQUEST, strength=1.0)
    given = Image.new("RGB", (16, 16), "blue")
    with pytest.raises(Killed):
        corrected(folder(tmp_path, request, original=given), dies=2)
    with folder(tmp_path, request, original=given).claimed() as begun:
        assert len(begun.attempts) == 2
    other = Image.new("RGB", (16, 16), "green")
    with (
        pytest.raises(OutputError, match="another original"),
        folder(tmp_path, request, original=other).claimed(),
    ):
        pass


def test_a_finished_correction_of_another_original_is_not_taken_for_this_one(
    tmp_path: Path,
) -> None:
    given = Image.new("RGB", (16, 16), "blue")
    corrected(folder(tmp_path, original=given))
    assert folder(tmp_path, original=given).state() == "finished"
    for other in (Image.new("RGB", (16, 16), "green"), None):
        request = replace(REQUEST, height=16, width=16) if other is None else REQUEST
        with pytest.raises(OutputError, match="another original"):
            folder(tmp_path, request, original=other).state()


def test_a_full_disk_leaves_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        corrected(folder(tmp_path), dies=3)
    before = to_record(load_result(tmp_path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left on device"):
        corrected(folder(tmp_path))
    assert to_record(load_result(tmp_path)) == before

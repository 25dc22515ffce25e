"""A full disk at any write, and kill -9 at any moment: nothing is torn, nothing done is lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from npcorrect.errors import OutputError
from npcorrect.evaluation.report import files as report_files
from npcorrect.evaluation.report.summary import summarise
from npcorrect.evaluation.run import manifest, pictures, runner
from npcorrect.evaluation.run.fake import FakeBench, fake_manifest, fake_tools
from npcorrect.evaluation.run.store import Store
from tests.killing_correction import correct, recorded

KILLS = 6


class FullDisk:
    """Fails at the n-th of the writes that go through the one helper for them."""

    def __init__(self, failing: int) -> None:
        self.failing, self.writes = failing, 0

    def __call__(self, descriptor: int) -> None:
        self.writes += 1
        if self.writes == self.failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


UNLIKE = ("seconds", "vlm_seconds", "readings")
"""What a continued correction may differ in: its time, and that it reads again to propose."""


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in UNLIKE}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def result(folder: Path) -> Any:
    return timeless(json.loads((folder / "result.json").read_text()))


def at_every_write(
    work: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int = 1
) -> list[Path]:
    """Do the work once for each write (or every so many) that fails; the folders."""
    folders: list[Path] = []
    failing = 1
    while True:
        folder = tmp_path / f"full-{failing}"
        disk = FullDisk(failing)
        monkeypatch.setattr("npcorrect.files.os.fsync", disk)
        try:
            work(folder)
        except OutputError as error:
            said = str(error)
        else:
            monkeypatch.undo()
            return folders
        assert "No space left on device" in said
        assert "\n" not in said
        assert not [path for path in folder.rglob(".*.*") if path.name != ".npc.lock"]
        folders.append(folder)
        failing += every


def test_a_correction_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    correct(tmp_path / "calm")
    folders = at_every_write(correct, tmp_path, monkeypatch, every=2)
    assert len(folders) > 4
    for folder in folders:
        before = recorded(folder)
        correct(folder)
        assert recorded(folder) >= before
        assert result(folder) == result(tmp_path / "calm")


def test_a_run_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_manifest(limit=2, methods=("base", "npc"))
    samples = manifest.samples(made.settings, FakeBench())

    def carry_out(folder: Path) -> list[Any]:
        runner.run(Store(folder), made, samples, fake_tools, runner.in_process, lambda r: None)
        return Store(folder).records()

    def decided(folder: Path) -> list[Any]:
        return [[(s.image, s.accepted, s.chosen) for s in r.steps] for r in carry_out(folder)]

    calm = decided(tmp_path / "calm")
    folders = at_every_write(carry_out, tmp_path, monkeypatch, every=3)
    assert len(folders) > 2
    for folder in folders:
        kept = Store(folder).records() if Store(folder).manifest_path.exists() else []
        assert decided(folder) == calm
        assert all(record in Store(folder).records() for record in kept if not record.open_pictures)


def test_reports_and_exports_survive_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_manifest(limit=1, methods=("base",))
    samples = manifest.samples(made.settings, FakeBench())
    store = Store(tmp_path / "run")
    runner.run(store, made, samples, fake_tools, runner.in_process, lambda r: None)
    report = summarise([store.folder], source=FakeBench())
    folder = tmp_path / "report"
    report_files.write(report, folder)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}

    def again(_: Path) -> None:
        report_files.write(report, folder)

    assert len(at_every_write(again, tmp_path, monkeypatch)) == len(whole)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    (picture,) = {step.image for record in store.records() for step in record.steps[:1]}
    image = store.image(picture)
    assert image
    for name in ("a.png", "a.jpg", "a.webp"):
        monkeypatch.setattr("npcorrect.files.os.fsync", FullDisk(1))
        with pytest.raises(OutputError, match="No space left"):
            pictures.save(image, tmp_path / name)
        assert not (tmp_path / name).exists()
        pictures.save(image, tmp_path / name)


def test_killed_at_any_moment_nothing_is_torn_or_lost(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killing_correction.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "out", str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    correct(tmp_path / "calm")
    for folder in tmp_path.glob("out*"):
        assert result(folder) == result(tmp_path / "calm")

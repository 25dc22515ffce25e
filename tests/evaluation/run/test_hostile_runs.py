"""Run folders that may come from anyone: checked by meaning, and never left by a link."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.evaluation.report import files
from npcorrect.evaluation.report.summary import summarise
from npcorrect.evaluation.run import manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, fake_manifest, fake_tools
from npcorrect.evaluation.run.pictures import PictureFile
from npcorrect.evaluation.run.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = fake_manifest(limit=2, methods=("base", "npc"))
    samples = manifest.samples(made.settings, FakeBench())
    folder = tmp_path / "run"
    runner.run(Store(folder), made, samples, fake_tools, runner.in_process, lambda record: None)
    return folder


def change(run: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit every record's JSON."""
    with closing(sqlite3.connect(run / "records.sqlite")) as connection, connection:
        rows = connection.execute("select sample, repeat, method, body from record").fetchall()
        for sample, repeat, method, body in rows:
            value = json.loads(body)
            edit(value)
            connection.execute(
                "update record set body = ? where sample = ? and repeat = ? and method = ?",
                (json.dumps(value), sample, repeat, method),
            )


def set_steps(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def edit(record: dict[str, Any]) -> None:
        for step in record["steps"]:
            step.update(fields)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record.update(steps=[]),
        set_steps(chosen=99),
        set_steps(chosen=-1),
        set_steps(score=None),
        set_steps(score={"value": float("nan")}),
        set_steps(score={"value": float("inf")}),
        set_steps(score={"value": 1.0, "parts": [["x", float("nan")]]}),
        set_steps(cost={"evaluations": -5}),
        set_steps(cost={"seconds": float("nan")}),
        set_steps(cost={"evaluations": "many"}),
        set_steps(kept=1.5),
        set_steps(kept=-0.1),
        set_steps(kept=float("nan")),
        set_steps(kept="most"),
    ],
)
def test_records_without_a_meaning_are_a_sentence(
    edit: Callable[[dict[str, Any]], None], run: Path
) -> None:
    change(run, edit)
    with pytest.raises(SettingsError, match="cannot be read"):
        summarise([run], source=FakeBench())


def test_records_that_do_not_say_what_is_kept_are_reported_without_it(run: Path) -> None:
    def forget(record: dict[str, Any]) -> None:
        for step in record["steps"]:
            del step["kept"]

    assert summarise([run], source=FakeBench()).rows[1].kept
    change(run, forget)
    report = summarise([run], source=FakeBench())
    assert [(row.kept, row.kept_most) for row in report.rows] == [(None, None)] * 2
    assert all(record.score().value is not None for c in report.columns for record in c.records)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("images", 10**9, "images is 1000000000"),
        ("images", -1, "images is -1"),
        ("seeds", 0, "seeds is 0"),
        ("schema_version", 999, "version 999"),
        ("limit", -2, "limit is -2"),
    ],
)
def test_manifests_out_of_range_are_a_sentence(
    field: str, value: int, says: str, run: Path
) -> None:
    made = json.loads((run / "manifest.json").read_text())
    (made if field == "schema_version" else made["settings"])[field] = value
    (run / "manifest.json").write_text(json.dumps(made))
    with pytest.raises(SettingsError, match=says):
        summarise([run], source=FakeBench())


def test_a_report_of_a_run_without_its_pictures_says_so(run: Path, tmp_path: Path) -> None:
    for path in (run / "images").rglob("*.png"):
        path.unlink()
    report = summarise([run], source=FakeBench())
    files.write(report, tmp_path / "report")
    assert "data:image" not in (tmp_path / "report" / "report.html").read_text()


def test_links_are_not_followed(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8), (9, 9, 9)).save(secret)
    store = Store(run)
    for record in store.records():
        for step in record.steps:
            store.picture(step.image).unlink(missing_ok=True)
            store.picture(step.image).symlink_to(secret)
    report = summarise([run], source=FakeBench())
    files.write(report, tmp_path / "report")
    assert "data:image" not in (tmp_path / "report" / "report.html").read_text()
    (run / "records.sqlite").rename(tmp_path / "elsewhere.sqlite")
    (run / "records.sqlite").symlink_to(tmp_path / "elsewhere.sqlite")
    with pytest.raises(SettingsError, match="is a link"):
        store.records()


@pytest.mark.parametrize(
    "script",
    [
        "alter table record rename to other; create view record as with recursive c(n) as "
        "(select 1 union all select n + 1 from c) select n as sample, 0 as repeat, 'base' as "
        "method, '{}' as body from c",
        "create trigger t after insert on record begin delete from record; end",
        "drop table record; create table record (sample, repeat, method)",
        "drop table record; create table record (sample, repeat, method, body, more); "
        "insert into record values (null, 1.5, x'00', 5, 6)",
        "insert into record values (98, 0, 'base', cast(x'ff00' as text))",
    ],
)
def test_tables_of_somebody_else_are_a_sentence(script: str, run: Path) -> None:
    with closing(sqlite3.connect(run / "records.sqlite")) as connection:
        connection.executescript(script)
        connection.commit()
    with pytest.raises(SettingsError, match="cannot be read"):
        Store(run).records()


def _link(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("ending", ["", "-wal", "-journal"])
@pytest.mark.parametrize(
    ("make", "kind"), [(Path.mkdir, "folder"), (os.mkfifo, "pipe"), (_link, "link")]
)
def test_what_is_no_file_of_records_is_a_sentence(
    make: Callable[[Path], None], kind: str, ending: str, run: Path
) -> None:
    path = run / f"records.sqlite{ending}"
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(SettingsError, match=f"is a {kind}"):
        Store(run).records()
    with pytest.raises(SettingsError, match=f"is a {kind}"), Store(run).writing():
        pass


def test_a_pipe_for_a_manifest_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(SettingsError, match="holds no run"):
        Store(tmp_path).manifest()


def test_reading_a_run_writes_nothing_to_it(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    summarise([run], source=FakeBench())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_other_formats_than_three_are_not_opened(tmp_path: Path) -> None:
    """Pillow hands an EPS to Ghostscript, whatever its file is called."""
    path = tmp_path / "1.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(SettingsError, match="no PNG, JPEG or WebP"):
        PictureFile(path).read()


def test_a_decompression_bomb_is_not_opened(tmp_path: Path) -> None:
    from io import BytesIO

    file = BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, format="PNG")
    path = tmp_path / "1.png"
    path.write_bytes(file.getvalue())
    with pytest.raises(SettingsError, match="too large"):
        PictureFile(path).read()

"""Runs: the same whatever interrupts them, refused where they would mix, whole when merged."""

from __future__ import annotations

import csv
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from npcorrect.errors import ModelError, NpcError, OutputError, SettingsError
from npcorrect.evaluation.report import files, tables
from npcorrect.evaluation.report.summary import summarise
from npcorrect.evaluation.run import manifest, runner
from npcorrect.evaluation.run.fake import FakeBench, fake_manifest, fake_tools
from npcorrect.evaluation.run.manifest import Manifest, Shard
from npcorrect.evaluation.run.records import Key, Record
from npcorrect.evaluation.run.runner import Executor, Load
from npcorrect.evaluation.run.store import Store
from npcorrect.workers import Pool
from tests.evaluation.run.mortal import mortal_tools, unloadable
from tests.evaluation.run.waiting import MEANWHILE, PICTURES, telling_tools

KILLS = 50


def carry_out(
    folder: Path,
    made: Manifest | None = None,
    load: Load = fake_tools,
    executor: Executor = runner.in_process,
) -> list[Record]:
    made = made or fake_manifest()
    samples = manifest.samples(made.settings, FakeBench())
    runner.run(Store(folder), made, samples, load, executor, lambda record: None)
    return Store(folder).records()


def timeless(value: Any) -> Any:
    """JSON values without seconds, which no two runs share."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "seconds"}
    return [timeless(v) for v in value] if isinstance(value, list | tuple) else value


def reported(folder: Path) -> tuple[Any, Any]:
    report = summarise([folder], source=FakeBench())
    lines = csv.DictReader(tables.samples(report).splitlines())
    return timeless(files.figures(report)), timeless(list(lines))


def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, str(KILLS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > KILLS * 0.8
    committed = (tmp_path / "log").read_text().splitlines()
    assert len(committed) == len(set(committed)), "a finished record was made again"
    carry_out(tmp_path / "calm" / "run", fake_manifest(seeds=4))
    assert reported(tmp_path / "run") == reported(tmp_path / "calm" / "run")
    names = {step.image for record in Store(tmp_path / "run").records() for step in record.steps}
    assert all(Store(tmp_path / "run").picture(name).is_file() for name in names)


def test_an_interrupted_run_does_only_what_is_left(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def interrupted(load: Load, groups: Sequence[runner.Jobs]) -> Any:
        for number, done in enumerate(runner.in_process(load, groups)):
            if number == 10:
                raise StoppedError
            yield done

    with pytest.raises(StoppedError):
        carry_out(tmp_path, executor=interrupted)
    before = Store(tmp_path).records()
    assert len(before) == 10

    given: list[Key] = []

    def noting(load: Load, groups: Sequence[runner.Jobs]) -> Any:
        given.extend(job.key for jobs in groups for job in jobs)
        return runner.in_process(load, groups)

    after = carry_out(tmp_path, executor=noting)
    settled = [r for r in before if not r.open_pictures]
    assert len(settled) > 5
    assert {r.key for r in settled}.isdisjoint(given)
    assert {r.key for r in before} | set(given) == {r.key for r in after}
    assert [r for r in after if r in settled] == settled


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": 4}, "images 3 instead of 4"),
        ({"shard": Shard(1, 2)}, "shard 1/1 instead of 1/2"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    carry_out(tmp_path)
    with pytest.raises(SettingsError, match=says):
        carry_out(tmp_path, fake_manifest(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "others"}, "other prompts"),
        ({"code": "new"}, "other code"),
        ({"versions": {"python": "4"}}, "python 3 instead of 4"),
        ({"own": {"my.py": "2", "new.py": "3"}}, "with other code in my.py. Give"),
    ],
)
def test_other_prompts_code_and_versions_are_refused(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    began = replace(fake_manifest(), own={"my.py": "1"})
    carry_out(tmp_path, began)
    with pytest.raises(SettingsError, match=says):
        carry_out(tmp_path, replace(began, **changes))
    carry_out(tmp_path, replace(began, git="later", own={"new.py": "3"}))
    assert Store(tmp_path).manifest().own == {"my.py": "1", "new.py": "3"}


def test_a_run_that_failed_before_anything_was_finished_binds_nobody(tmp_path: Path) -> None:
    def unreachable() -> Any:
        raise ModelError("The server cannot be reached.")

    with pytest.raises(ModelError):
        carry_out(tmp_path, replace(fake_manifest(), versions={"python": "4"}), unreachable)
    (tmp_path / "records.sqlite").write_bytes(b"")
    assert carry_out(tmp_path)
    assert Store(tmp_path).manifest().versions == fake_manifest().versions


def test_two_processes_do_not_write_to_one_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing(fake_manifest()), pytest.raises(OutputError, match="Another process"):
        carry_out(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no run"):
        Store(tmp_path).records()


@pytest.mark.parametrize("damage", [b"no database at all, not even nearly", None])
def test_damaged_records_are_a_sentence(damage: bytes | None, tmp_path: Path) -> None:
    carry_out(tmp_path, fake_manifest(limit=1, methods=("base",)))
    path = tmp_path / "records.sqlite"
    path.unlink()
    if damage:
        path.write_bytes(damage)
    with pytest.raises(SettingsError, match="cannot be read"):
        Store(tmp_path).records()


@pytest.mark.parametrize(
    ("old", "new"), [('"image":"', '"image":"../../'), ('"method":"base"', '"method":"../base"')]
)
def test_names_that_leave_the_folder_are_refused(old: str, new: str, tmp_path: Path) -> None:
    """A run may come from anyone, and its names become paths."""
    carry_out(tmp_path, fake_manifest(limit=1, methods=("base",)))
    with closing(sqlite3.connect(tmp_path / "records.sqlite")) as connection, connection:
        changed = connection.execute("update record set body = replace(body, ?, ?)", (old, new))
        assert changed.rowcount == 1
    with pytest.raises(SettingsError, match="cannot be read"):
        Store(tmp_path).records()


@pytest.fixture(scope="module")
def connected() -> Iterator[Any]:
    with Pool(2).started() as ray:
        yield ray


@pytest.mark.usefixtures("connected")
@pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed (npcorrect[ray]).")
class TestRay:
    """Workers of their own, on one cluster that stays connected from test to test."""

    def test_workers_that_die_are_replaced_and_their_samples_redone(self, tmp_path: Path) -> None:
        deadly = [FakeBench().samples()[i].prompt for i in (1, 6)]
        load = partial(mortal_tools, tmp_path, deadly, 1)
        carry_out(tmp_path / "ray" / "run", load=load, executor=runner.RayExecutor(2))
        assert len(list(tmp_path.glob("prompt*"))) == len(deadly)
        carry_out(tmp_path / "here" / "run")
        assert reported(tmp_path / "ray" / "run") == reported(tmp_path / "here" / "run")

    def test_a_program_that_was_connected_stays_so(self, connected: Any, tmp_path: Path) -> None:
        carry_out(tmp_path, fake_manifest(limit=1), executor=runner.RayExecutor(1))
        assert connected.is_initialized()

    def test_workers_for_which_there_is_no_room_wait_until_others_end(self, tmp_path: Path) -> None:
        carry_out(tmp_path / "ray" / "run", executor=runner.RayExecutor(3))
        carry_out(tmp_path / "here" / "run")
        assert reported(tmp_path / "ray" / "run") == reported(tmp_path / "here" / "run")

    def test_another_cluster_than_the_connected_one_is_refused(
        self, connected: Any, tmp_path: Path
    ) -> None:
        with pytest.raises(SettingsError, match="cannot be used at"):
            carry_out(tmp_path, executor=runner.RayExecutor(1, address="10.0.0.1:6379"))
        assert connected.is_initialized()

    def test_a_worker_draws_the_next_picture_while_a_server_judges(self, tmp_path: Path) -> None:
        made = fake_manifest(methods=("base",), limit=PICTURES)
        records = carry_out(tmp_path, made, telling_tools, runner.RayExecutor(1))
        assert [record.score().reason for record in records] == [MEANWHILE] * PICTURES

    def test_what_cannot_be_loaded_is_said_as_without_ray(self, tmp_path: Path) -> None:
        for executor in (runner.in_process, runner.RayExecutor(1)):
            with pytest.raises(ModelError, match="no such model"):
                carry_out(tmp_path, load=unloadable, executor=executor)

    def test_a_sample_that_kills_every_worker_ends_the_run(self, tmp_path: Path) -> None:
        deadly = [FakeBench().samples()[3].prompt]
        load = partial(mortal_tools, tmp_path, deadly, 9)
        with pytest.raises(NpcError, match=f"3 workers died on base for the prompt '{deadly[0]}'"):
            carry_out(tmp_path / "run", load=load, executor=runner.RayExecutor(1))
        assert Store(tmp_path / "run").records(), "what was finished before is kept"


def test_shards_have_every_sample_once() -> None:
    whole = manifest.samples(fake_manifest(seeds=2).settings, FakeBench())
    parts = [
        sample
        for number in (1, 2, 3)
        for sample in manifest.samples(
            fake_manifest(seeds=2, shard=Shard(number, 3)).settings, FakeBench()
        )
    ]
    assert sorted(parts, key=lambda s: (s.repeat, s.id)) == whole


def test_a_limit_is_spread_over_the_benchmark() -> None:
    samples = manifest.samples(fake_manifest(limit=3).settings, FakeBench())
    assert [sample.id for sample in samples] == [1, 5, 9]

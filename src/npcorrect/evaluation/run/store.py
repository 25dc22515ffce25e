"""A run on disk: ``manifest.json``, ``records.sqlite`` and ``images/``, named by their content.

One process writes at a time. A record is committed as soon as it is finished, after its pictures,
so that a run may be killed at any moment and continued. A run may come from anyone: what it holds
is checked by its meaning before it is used.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL.Image import Image
from pydantic import TypeAdapter

from npcorrect.errors import OutputError, SettingsError
from npcorrect.evaluation.benchmarks.base import Score
from npcorrect.evaluation.run import manifest as manifests
from npcorrect.evaluation.run.manifest import Manifest
from npcorrect.evaluation.run.pictures import picture_name, read_file
from npcorrect.evaluation.run.records import Key, Record, fault
from npcorrect.evaluation.run.worker import Done
from npcorrect.files import decode_picture, foreign_to_database, locked, prepare, replacing
from npcorrect.text import one_line

_log = logging.getLogger(__name__)
_RECORD = TypeAdapter(Record)
_SCORE = TypeAdapter(Score)
_MANIFEST = TypeAdapter(Manifest)
_TABLES = """
create table if not exists record (
    sample integer not null,
    repeat integer not null,
    method text not null,
    body text not null,
    primary key (sample, repeat, method)
) without rowid;
create table if not exists score (
    judge text not null,
    sample integer not null,
    repeat integer not null,
    image text not null,
    body text not null,
    primary key (judge, sample, repeat, image)
) without rowid;
create view if not exists step as
    select sample, repeat, method, key as place, value as body
    from record, json_each(record.body, '$.steps');
"""

_ACTING = """
select type from sqlite_master
where type = 'trigger' or (type = 'view' and name in ('record', 'score'))
"""

Pictured = tuple[int, int, str]
"""A picture of a run by the id of its prompt, the repeat, and its name."""


class Store:
    """A run's folder: its manifest, its records and its pictures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest_path(self) -> Path:
        """The file of the settings, versions and checksums that made the run."""
        return self.folder / "manifest.json"

    def manifest(self) -> Manifest:
        """How the run was made.

        Raises:
            SettingsError: the folder holds no run, or one that cannot be used.
        """
        try:
            manifest = _MANIFEST.validate_json(read_file(self.manifest_path))
        except (OSError, ValueError):
            raise SettingsError(
                f"{str(self.folder)!r} holds no run; give a folder that 'npc bench run' made."
            ) from None
        if reason := manifests.fault(manifest):
            raise SettingsError(f"The run in {str(self.folder)!r} cannot be used: {reason}.")
        return manifest

    @contextmanager
    def writing(self, manifest: Manifest | None = None) -> Iterator[Writer]:
        """Begin the run, continue it, or let it grow, alone; without a manifest, add to it.

        Raises:
            OutputError: the folder cannot be written, or another process writes to it.
            SettingsError: the run in the folder was made differently.
        """
        prepare(self.folder)
        taken = (
            f"Another process writes to {str(self.folder)!r}; wait for it, or choose another "
            "folder with --out."
        )
        with locked(self.folder / "lock", taken):
            if manifest is not None and self._holds_records():
                self.check(manifest)
                manifest = manifests.grown(self.manifest(), manifest)
            with closing(self._connect("rwc")) as connection:
                self._begin(connection, manifest)
                yield Writer(self, connection)

    def _begin(self, connection: sqlite3.Connection, manifest: Manifest | None) -> None:
        """Make the tables, then the manifest, without which the folder holds no run."""
        try:
            connection.executescript(_TABLES)
            if manifest is not None:
                content = _MANIFEST.dump_json(manifest, indent=2) + b"\n"
                _write(self.manifest_path, content)
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError(
                f"Cannot begin the run in {str(self.folder)!r} ({error}); choose another folder "
                "with --out."
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from None

    def check(self, manifest: Manifest) -> None:
        """Refuse another run than that in the folder.

        Raises:
            SettingsError: it was made differently.
        """
        if different := manifests.differences(self.manifest(), manifest):
            raise SettingsError(
                f"The run in {str(self.folder)!r} was made with {'; '.join(different)}. "
                "Give the same, or another folder with --out."
            )

    def _holds_records(self) -> bool:
        """Whether anything of a run is finished; what failed before that binds nobody."""
        begun = self.manifest_path.exists() and (self.folder / "records.sqlite").exists()
        table = "select 1 from sqlite_master where name = 'record'"
        return begun and all(self._select(one) for one in (table, "select 1 from record limit 1"))

    def _connect(self, mode: str) -> sqlite3.Connection:
        """A connection to tables that do nothing of their own when they are read or written.

        Raises:
            SettingsError: the file is no file of records.
        """
        path = self.folder / "records.sqlite"
        if foreign := foreign_to_database(path):
            raise self._damaged(foreign)
        try:
            connection = sqlite3.connect(
                f"file:{quote(str(path.absolute()))}?mode={mode}", uri=True
            )
            if acting := connection.execute(_ACTING).fetchall():
                connection.close()
                raise self._damaged(f"they hold a {acting[0][0]} that 'npc bench' did not make")
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from None
        return connection

    def records(self) -> list[Record]:
        """All finished records, in the benchmark's order.

        Raises:
            SettingsError: the folder holds no run, or one that is damaged.
        """
        records = []
        for place, record, reason in self._read():
            if record is None:
                raise self._damaged(f"{place}: {reason}", "give the run's command again to do it")
            records.append(record)
        return records

    def sound_records(self) -> list[Record]:
        """The records that can be used, in the benchmark's order; a warning names each other one.

        Raises:
            SettingsError: the folder holds no run, or no records at all can be read.
        """
        records = []
        for place, record, reason in self._read():
            if record is None:
                _log.warning(
                    "The record of %s cannot be read (%s); it is done again.", place, reason
                )
            else:
                records.append(record)
        return records

    def _read(self) -> Iterator[tuple[str, Record | None, str]]:
        """What each row is about, with its record, or why it is none."""
        self.manifest()
        rows = self._select(
            "select sample, repeat, method, body from record order by sample, repeat, method"
        )
        for sample, repeat, method, body in rows:
            place = one_line(f"{method} on prompt {sample}", 200)
            try:
                record = _RECORD.validate_json(body)
            except ValueError as error:
                yield place, None, one_line(str(error).partition("\n")[0], 200)
                continue
            moved = record.key != Key(sample, repeat, method)
            reason = "it is another's" if moved else fault(record)
            yield place, None if reason else record, reason

    def judges(self) -> tuple[str, ...]:
        """The further judges who have scored pictures of the run."""
        if not self._select("select 1 from sqlite_master where name = 'score'"):
            return ()
        return tuple(name for (name,) in self._select("select distinct judge from score"))

    def scores(self, judge: str) -> dict[Pictured, Score]:
        """What a further judge said of each picture.

        Raises:
            SettingsError: the scores are damaged.
        """
        if judge not in self.judges():
            return {}
        rows = self._select("select sample, repeat, image, body from score where judge = ?", judge)
        try:
            return {
                (sample, repeat, image): _SCORE.validate_json(body)
                for sample, repeat, image, body in rows
            }
        except ValueError as error:
            raise self._damaged(str(error).splitlines()[0]) from None

    def _select(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        try:
            with closing(self._connect("ro")) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(str(error)) from None

    def _damaged(
        self, reason: str, remedy: str = "restore them, or begin anew in another folder"
    ) -> SettingsError:
        return SettingsError(
            f"The records in {str(self.folder)!r} cannot be read ({reason}); {remedy}."
        )

    def picture(self, name: str) -> Path:
        """The path of a picture's file by its name, one folder for each first two digits."""
        return self.folder / "images" / name[:2] / f"{name}.png"

    def read_picture(self, name: str) -> bytes | None:
        """The file of a picture; None where it is gone, or is not what the name stands for."""
        try:
            content = read_file(self.picture(name))
        except (OSError, ValueError):
            return None
        return content if picture_name(content) == name else None

    def image(self, name: str) -> Image | None:
        """A picture; None where it is gone, or is none."""
        content = self.read_picture(name)
        try:
            return decode_picture(content, name) if content is not None else None
        except SettingsError:
            return None


class Writer:
    """The only one who writes to a run."""

    def __init__(self, store: Store, connection: sqlite3.Connection) -> None:
        self._store, self._connection = store, connection

    def add(self, done: Done) -> None:
        """Keep the pictures, then the record, for good, in place of an earlier one.

        Raises:
            OutputError: the disk does not take them.
        """
        key = done.record.key
        body = _RECORD.dump_json(done.record).decode()
        row = key.sample, key.repeat, key.method, body
        with self._told():
            for name, file in done.pictures.items():
                path = self._store.picture(name)
                if self._store.read_picture(name) is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, file)
            with self._connection:
                self._connection.execute("insert or replace into record values (?, ?, ?, ?)", row)

    def add_scores(self, judge: str, scores: Mapping[Pictured, Score]) -> None:
        """Keep what a further judge said.

        Raises:
            OutputError: the disk does not take it.
        """
        rows = [(judge, *place, _SCORE.dump_json(one).decode()) for place, one in scores.items()]
        with self._told(), self._connection:
            self._connection.executemany(
                "insert or replace into score values (?, ?, ?, ?, ?)", rows
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError(
                f"Cannot write to the run in {str(self._store.folder)!r} ({error}); what was "
                "finished is kept, so make room and give the same command again."
            ) from None


def of_sample(scores: Mapping[Pictured, Score], record: Record) -> dict[str, Score]:
    """The scores of the pictures of a record's sample, by their names."""
    place = record.key.sample, record.key.repeat
    names = {step.image for step in record.steps}
    return {name: scores[*place, name] for name in names if (*place, name) in scores}


def _write(path: Path, content: bytes) -> None:
    """Write a file in one move."""
    with replacing(path) as file:
        file.write(content)

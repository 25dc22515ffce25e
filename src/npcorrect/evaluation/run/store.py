"""A run on disk: ``manifest.json``, ``records.sqlite`` and ``images/``, named by their content.

One process writes at a time. A record is committed as soon as it is finished, after its pictures,
so that a run may be killed at any moment and continued.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from npcorrect.errors import OutputError, SettingsError
from npcorrect.evaluation.run.manifest import Manifest, differences
from npcorrect.evaluation.run.records import Key, Record
from npcorrect.evaluation.run.worker import Done
from npcorrect.files import prepare, replacing

_RECORD = TypeAdapter(Record)
_MANIFEST = TypeAdapter(Manifest)
_TABLE = """
create table if not exists record (
    sample integer not null,
    repeat integer not null,
    method text not null,
    body text not null,
    primary key (sample, repeat, method)
) without rowid;
create view if not exists step as
    select sample, repeat, method, key as place, value as body
    from record, json_each(record.body, '$.steps');
"""


class Store:
    """A run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest_path(self) -> Path:
        """The settings that made the run."""
        return self.folder / "manifest.json"

    def manifest(self) -> Manifest:
        """How the run was made.

        Raises:
            SettingsError: the folder holds no run.
        """
        try:
            return _MANIFEST.validate_json(self.manifest_path.read_bytes())
        except (OSError, ValueError):
            raise SettingsError(
                f"{str(self.folder)!r} holds no run; give a folder that 'npc bench run' made."
            ) from None

    @contextmanager
    def writing(self, manifest: Manifest) -> Iterator[Writer]:
        """Begin the run or continue it, alone.

        Raises:
            OutputError: the folder cannot be written, or another process writes to it.
            SettingsError: the run in the folder was made differently.
        """
        prepare(self.folder)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"Another process writes to {str(self.folder)!r}; wait for it, or choose another "
                "folder with --out."
            ) from None
        with lock:
            self._claim(manifest)
            with closing(self._connect()) as connection:
                yield Writer(self.folder, connection)

    def _claim(self, manifest: Manifest) -> None:
        if self.manifest_path.exists():
            self.check(manifest)
            return
        with closing(self._connect()) as connection:
            connection.executescript(_TABLE)
        _write(self.manifest_path, _MANIFEST.dump_json(manifest, indent=2) + b"\n")

    def check(self, manifest: Manifest) -> None:
        """Refuse another run than that in the folder.

        Raises:
            SettingsError: it was made differently.
        """
        if different := differences(self.manifest(), manifest):
            raise SettingsError(
                f"The run in {str(self.folder)!r} was made with {'; '.join(different)}. "
                "Give the same, or another folder with --out."
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "records.sqlite")

    def records(self) -> list[Record]:
        """All finished records, in the benchmark's order.

        Raises:
            SettingsError: the folder holds no run, or one that is damaged.
        """
        self.manifest()
        try:
            with closing(self._connect()) as connection:
                rows = connection.execute("select body from record order by sample, repeat, method")
                return [_RECORD.validate_json(body) for (body,) in rows]
        except (sqlite3.DatabaseError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise SettingsError(
                f"The records in {str(self.folder)!r} cannot be read ({reason}); "
                "restore them, or begin anew in another folder."
            ) from None

    def picture(self, name: str) -> Path:
        """The file of a picture."""
        return picture_path(self.folder, name)


class Writer:
    """The only one who writes to a run."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self._folder, self._connection = folder, connection

    def finished(self) -> set[Key]:
        """What need not be done again."""
        rows = self._connection.execute("select sample, repeat, method from record")
        return {Key(*row) for row in rows}

    def add(self, done: Done) -> None:
        """Keep the pictures, then the record, for good.

        Raises:
            OutputError: the disk does not take them.
        """
        key = done.record.key
        try:
            for name, file in done.pictures.items():
                path = picture_path(self._folder, name)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, file)
            body = _RECORD.dump_json(done.record).decode()
            with self._connection:
                self._connection.execute(
                    "insert into record values (?, ?, ?, ?)",
                    (key.sample, key.repeat, key.method, body),
                )
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError(
                f"Cannot write to the run in {str(self._folder)!r} ({error}); what was finished "
                "is kept, so make room and give the same command again."
            ) from None


def picture_path(folder: Path, name: str) -> Path:
    """Where a run keeps the picture of this name."""
    return folder / "images" / name[:2] / f"{name}.png"


def _write(path: Path, content: bytes) -> None:
    """Write a file in one move."""
    with replacing(path) as file:
        file.write(content)

"""Official files of other people's benchmarks: found, fetched, verified, read and written.

None of them is part of this package. They are looked for in the folder that the user names, then in
the user's cache, where :func:`fetch` puts them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.official_files import OfficialFile
from npcorrect.files import prepare, replacing, write_text

MAX_BYTES = 2**24


def cache() -> Path:
    """Where fetched files lie; ``NPC_DATA`` names another folder."""
    return Path(os.environ.get("NPC_DATA") or user_cache_path("npcorrect") / "benchmarks")


def locate(file: OfficialFile, folder: Path | None = None) -> Path:
    """The file in a folder, or in the cache where none is named.

    Raises:
        SettingsError: it is not there, or is not the official one.
    """
    places = [folder or cache()]
    for path in (place / name for place in places for name in (file.name, *file.aliases)):
        if path.is_file():
            if not _is(path.read_bytes(), file):
                raise SettingsError(
                    f"{str(path)!r} is not the official {file.name} (it has not the hash "
                    f"{file.hash[:12]}…); fetch it again with 'npc bench fetch'."
                )
            return path
    raise SettingsError(
        f"{file.name} is not in {str(places[0])!r}; get it with 'npc bench fetch', or name its "
        "folder with --data."
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, empty lines left out."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, each with these columns.

    Raises:
        SettingsError: the file cannot be read, or has not all of them.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            header = rows.fieldnames or ()
            missing = [name for name in columns if name not in header]
            if missing:
                raise ValueError(f"it has no column {', '.join(missing)}")
            return [{key: row[key] or "" for key in row if key is not None} for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise SettingsError(f"{str(path)!r} cannot be read as CSV ({error}).") from None


def write_json(path: Path, value: Any) -> None:
    """A result file as upstream's scripts write it."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_rows(path: Path, fields: Sequence[str], under: str | None = None) -> list[dict[str, Any]]:
    """The rows of a result file of an upstream script, JSON or JSONL, each with these fields.

    Raises:
        SettingsError: the file cannot be read, or is none.
    """
    try:
        if path.suffix == ".jsonl":
            rows: Any = lines(path)
        else:
            rows = json.loads(path.read_text(encoding="utf-8"))
            rows = rows[under] if under else rows
        for row in rows:
            for name in fields:
                row[name]
        return list(rows)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SettingsError(
            f"{str(path)!r} is no result file of the upstream script ({error!r}); it needs "
            f"{', '.join(fields)}."
        ) from None


def fetch(file: OfficialFile, folder: Path, get: Callable[[str], bytes] | None = None) -> Path:
    """Bring a file into a folder, unless it is there already.

    Raises:
        OutputError: the folder cannot be written.
        SettingsError: the file cannot be had, or its checksum is wrong; nothing is written then.
    """
    path = folder / file.name
    prepare(path.parent)
    if path.is_file() and _is(path.read_bytes(), file):
        return path
    content = (get or _get)(file.url)
    if not _is(content, file):
        raise SettingsError(
            f"{file.url} brought another file than the known {file.name} (it has not the hash "
            f"{file.hash[:12]}…); nothing was written."
        )
    with replacing(path) as out:
        out.write(content)
    return path


def _get(url: str) -> bytes:
    """A small file, by the client that the Hugging Face hub brings along."""
    import httpx2

    content = b""
    try:
        with httpx2.stream("GET", url, follow_redirects=True, timeout=60) as reply:
            reply.raise_for_status()
            for part in reply.iter_bytes():
                content += part
                if len(content) > MAX_BYTES:
                    raise SettingsError(f"{url} brings more than {MAX_BYTES >> 20} MiB.")
    except httpx2.HTTPError as error:
        raise SettingsError(
            f"{url} cannot be had ({error}); get the file yourself and name its folder with --data."
        ) from None
    return content


def checksum(files: Sequence[OfficialFile]) -> str:
    """The hash of a single file; of several, one for all of them."""
    if len(files) == 1:
        return files[0].hash
    return hashlib.sha256(" ".join(file.hash for file in files).encode()).hexdigest()


def _is(content: bytes, file: OfficialFile) -> bool:
    """Whether this is the file's content, as far as its hash says."""
    if not file.hash:
        return True
    if len(file.hash) == 64:
        return hashlib.sha256(content).hexdigest() == file.hash
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest() == file.hash

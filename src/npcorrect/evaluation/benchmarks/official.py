"""The official files of other people's benchmarks: where they come from, and that they are whole.

None of them is part of this package. They are looked for in the folder that the user names, then in
the user's cache, where :func:`fetch` puts them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from npcorrect.errors import OutputError, SettingsError
from npcorrect.files import prepare

MAX_BYTES = 2**24
_ECHO = (
    "https://raw.githubusercontent.com/yejy53/Echo-4o/"
    "28f36d76558e5f53b9deceda78bf025ef0d0ea24/test_scripts"
)
_GENEVAL2 = (
    "https://raw.githubusercontent.com/facebookresearch/GenEval2/"
    "a6e82d2289e8d418f27f0adee77908b07060eea3"
)


@dataclass(frozen=True)
class OfficialFile:
    """One file, pinned: its name upstream, other names that it may have, and its SHA-256."""

    name: str
    url: str
    sha256: str
    licence: str
    aliases: tuple[str, ...] = ()


GENEVAL_PP = OfficialFile(
    "Geneval++.jsonl",
    f"{_ECHO}/Geneval%2B%2B.jsonl",
    "9c1216a3f6fe2d99e4ffd63f3a6dba71f3dd7ab30a7c09cb41f03629b35d3e8f",
    "Apache-2.0",
    ("geneval_pp.jsonl",),
)
IMAGINE = OfficialFile(
    "Imagine.jsonl",
    f"{_ECHO}/Imagine.jsonl",
    "e22e33dd5e2722b9fedfb7ecddeb56841ec6ea93b3f0246a04d8dd374ab5a19e",
    "Apache-2.0",
    ("imagine.jsonl",),
)
GENEVAL2 = OfficialFile(
    "geneval2_data.jsonl",
    f"{_GENEVAL2}/geneval2_data.jsonl",
    "09233adbc9f877fba205f1a20efa4a8640e7e62a91dfd55893562bed8a928e43",
    "CC BY-NC 4.0: not for commercial use",
)
FILES = {"geneval++": GENEVAL_PP, "imagine": IMAGINE, "geneval2": GENEVAL2}
"""The official file of each benchmark."""


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
            if _digest(path.read_bytes()) != file.sha256:
                raise SettingsError(
                    f"{str(path)!r} is not the official {file.name} (SHA-256 {file.sha256[:12]}…); "
                    "fetch it again with 'npc bench fetch'."
                )
            return path
    raise SettingsError(
        f"{file.name} is not in {str(places[0])!r}; get it with 'npc bench fetch', or name its "
        "folder with --data."
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, empty lines left out."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def write_json(path: Path, value: Any) -> None:
    """A result file as upstream's scripts write it."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


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
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SettingsError(
            f"{str(path)!r} is no result file of the upstream script ({error!r}); it needs "
            f"{', '.join(fields)}."
        ) from None
    return list(rows)


def fetch(file: OfficialFile, folder: Path, get: Callable[[str], bytes] | None = None) -> Path:
    """Bring a file into a folder, unless it is there already.

    Raises:
        OutputError: the folder cannot be written.
        SettingsError: the file cannot be had, or its checksum is wrong; nothing is written then.
    """
    prepare(folder)
    path = folder / file.name
    if path.is_file() and _digest(path.read_bytes()) == file.sha256:
        return path
    content = (get or _get)(file.url)
    if _digest(content) != file.sha256:
        raise SettingsError(
            f"{file.url} brought another file than the known {file.name} (SHA-256 "
            f"{_digest(content)[:12]}… instead of {file.sha256[:12]}…); nothing was written."
        )
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r} ({error.strerror}).") from None
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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

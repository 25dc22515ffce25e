"""Files of prompts: one a line, A1111's lines, JSON lines, tables; and pictures with prompts."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from npcorrect.errors import SettingsError
from npcorrect.files import (
    MAX_TEXT_FILE,
    PARAMETERS,
    RECORD,
    decoded,
    picture_texts,
    read_json,
    read_text,
)
from npcorrect.records import Request
from npcorrect.settings import DrawSettings, options, read, set_once

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_NAMES = {"cfg-scale": "scale", "file": "image", "file-name": "image"}
"""What other programs call a setting, by its name here."""
_NEGATIVE = "negative-prompt"
_FLAG = re.compile(r"(?:^|\s)--([A-Za-z][A-Za-z_-]*)(?=\s|$)")


@dataclass(frozen=True)
class Job:
    """One prompt of a file, with the picture that it is to correct, if there is one.

    ``number`` is its place among the prompts, from 1, ``place`` what messages call it.
    """

    number: int
    request: Request
    place: str
    image: Path | None = None


def read_jobs(prompts: Path | None, images: Path | None, draw: DrawSettings) -> tuple[Job, ...]:
    """What a file of prompts, a folder of pictures, or both together ask for.

    ``draw`` is what holds where the file says nothing. Standard input is called ``-``. Paths of
    pictures in a file are relative to ``images``, or to the file's folder.

    Raises:
        SettingsError: a file cannot be read, a line is not understood, or there is no prompt.
    """
    if prompts is None:
        assert images is not None
        rows: Iterable[tuple[str, Mapping[str, Any]]] = _pictures(images)
        name, folder = str(images), images
    else:
        name, folder = str(prompts), images or prompts.parent
        rows = parsed(_content(prompts), name, prompts.suffix.lower())
    jobs = tuple(_job(n, place, row, draw, folder) for n, (place, row) in enumerate(rows, 1))
    if not jobs:
        raise SettingsError(f"{name!r} has no prompt; write one on each line.")
    if images is not None and (bare := next((job for job in jobs if job.image is None), None)):
        raise SettingsError(f"{bare.place} names no picture; give each prompt its 'image'.")
    return jobs


def parsed(text: str, name: str, suffix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The prompts of a file with their settings, by the settings' names, and where they stand.

    ``suffix`` tells tables (``.csv``, ``.tsv``) and JSON lines (``.jsonl``). Other lines are JSON
    where they begin as an object does, A1111's where they begin with ``--``, else a prompt.

    Raises:
        SettingsError: a line is not understood.
    """
    if suffix in (".csv", ".tsv"):
        yield from _table(text, name, "," if suffix == ".csv" else "\t")
        return
    for number, line in enumerate(text.split("\n"), 1):
        line, place = line.strip(), f"{name}, line {number}"
        if not line:
            continue
        if suffix == ".jsonl" or re.match(r"\{\s*\"", line):
            yield place, _object(line, place)
        elif line.startswith("--"):
            yield place, _flags(line, place)
        else:
            yield place, {"prompt": line}


def texts_of(path: Path) -> Mapping[str, str]:
    """The prompt in a PNG's text, and the user's negative prompt, by the settings' names.

    The text is as A1111 writes it. In a picture of this program its record tells the user's
    negative from those that were tried. What is not there is left out.

    Raises:
        SettingsError: the picture cannot be read, or its record is damaged.
    """
    texts = picture_texts(path)
    written = re.split(r"^Steps:", texts.get(PARAMETERS, ""), maxsplit=1, flags=re.MULTILINE)[0]
    prompt, *negatives = re.split(r"^Negative prompt:", written, maxsplit=1, flags=re.MULTILINE)
    negative = "".join(negatives).strip()
    if RECORD in texts:
        negative = _recorded_negative(path, texts[RECORD])
    fields = {"prompt": prompt.strip(), _NEGATIVE: negative}
    return {name: text for name, text in fields.items() if text}


def _recorded_negative(path: Path, record: str) -> str:
    try:
        negative = read_json(record)["request"].get("negative_prompt")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(
            f"The picture {str(path)!r} has a damaged record; give its prompt with --prompts."
        ) from None
    return negative if isinstance(negative, str) else ""


def _content(path: Path) -> str:
    if str(path) != "-":
        return read_text(path)
    content = sys.stdin.buffer.read(MAX_TEXT_FILE + 1)
    if len(content) > MAX_TEXT_FILE:
        raise SettingsError(f"Standard input has more than {MAX_TEXT_FILE >> 20} MiB.")
    return decoded(content, "standard input")


def _pictures(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {str(folder)!r}; check the path.")
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURES:
            continue
        texts = texts_of(path)
        if "prompt" not in texts:
            raise SettingsError(
                f"The picture {str(path)!r} has no prompt in it; give a table of pictures and "
                "prompts with --prompts."
            )
        yield str(path), {"image": path.name, **texts}


def _job(number: int, place: str, row: Mapping[str, Any], draw: DrawSettings, folder: Path) -> Job:
    values: dict[str, Any] = {}
    for name, value in row.items():
        set_once(values, _known(name), value, name, place)
    prompt, image = values.pop("prompt", None), values.pop("image", None)
    if not isinstance(prompt, str):
        raise SettingsError(f"{place}: there is no 'prompt'; give one as a text.")
    if image is not None and not (isinstance(image, str) and image):
        raise SettingsError(f"{place}: 'image' is no path of a picture.")
    settings = read(DrawSettings, values, place, ("prompt", "image"), draw)
    path = folder / Path(image).expanduser() if image is not None else None
    return Job(number, Request(prompt, **vars(settings)), place, path)


def _known(name: str) -> str:
    dashed = name.replace("_", "-")
    return _NAMES.get(dashed, dashed)


def _object(line: str, place: str) -> Mapping[str, Any]:
    try:
        value = read_json(line)
    except ValueError as error:
        raise SettingsError(f"{place} is no JSON ({error}).") from None
    if not isinstance(value, dict):
        raise SettingsError(f'{place} is no JSON object; give one such as {{"prompt": "…"}}.')
    return value


def _flags(line: str, place: str) -> Mapping[str, Any]:
    """``--prompt a castle --seed 7``, with or without quotes around a value."""
    _, *parts = _FLAG.split(line)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    values = {_known(name): _unquoted(value.strip()) for name, value in pairs}
    if not line.lstrip("-").startswith(parts[0] if parts else "\n"):
        raise SettingsError(f"{place} is not understood; write --prompt before the prompt.")
    return _typed(values)


def _table(text: str, name: str, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(StringIO(text), delimiter=delimiter)
    try:
        heads = [_known(head.strip().lower()) for head in next(reader, [])]
        if twice := sorted({head for head in heads if head and heads.count(head) > 1}):
            raise SettingsError(f"{name!r} has two columns {twice[0]!r}; leave one out.")
        for cells in reader:
            place = f"{name}, line {reader.line_num}"
            if not any(cells):
                continue
            if len(cells) > len(heads):
                raise SettingsError(
                    f"{place} has {len(cells)} cells and the first line {len(heads)}; put texts "
                    "with a separator in quotes."
                )
            yield place, _typed({h: c for h, c in zip(heads, cells, strict=False) if c})
    except csv.Error as error:
        raise SettingsError(f"{name!r} cannot be read as a table ({error}).") from None


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _typed(values: Mapping[str, str]) -> Mapping[str, Any]:
    """Texts as what their settings take; a text that is none of it stays, to be refused."""
    kinds = {one.name: one.kinds for one in options(DrawSettings)}
    return {name: _converted(text, kinds.get(name, (str,))) for name, text in values.items()}


def _converted(text: str, kinds: Sequence[type]) -> Any:
    if bool in kinds:
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        try:
            if kind in kinds:
                return kind(text)
        except ValueError:
            continue
    return text

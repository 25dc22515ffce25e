"""The result of a correction: which picture is kept, and how it is written and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from pydantic import TypeAdapter, ValidationError

from npcorrect.errors import SettingsError
from npcorrect.files import prepare, save_picture, save_png, write_text
from npcorrect.records import Attempt, Checklist, Cost, Drawing, Generation, Request, Usage
from npcorrect.sheet import sheet

SCHEMA_VERSION = 2
Ended = Literal["accepted", "exhausted", "unscored", "budget", "stopped"]
"""Why a correction made no more attempts: a picture was accepted, the candidates were used up, the
original could not be scored, the budget was spent, or it was stopped."""


@dataclass(frozen=True)
class Result:
    """What a correction has come to. ``ended`` is None as long as it goes on."""

    request: Request
    checklist: Checklist
    attempts: tuple[Attempt, ...]
    ended: Ended | None = None

    @property
    def best_index(self) -> int:
        """The place of the chosen attempt, the original included; see :func:`select`."""
        return select(self.attempts)

    @property
    def best(self) -> Attempt:
        """The chosen attempt.

        Raises:
            ValueError: nothing was drawn yet.
        """
        return self.attempts[self.best_index]

    @property
    def accepted(self) -> bool:
        """Whether the verifier accepted the chosen picture."""
        return bool(self.attempts) and self.best.verdict.accepted is True

    @property
    def cost(self) -> Cost:
        """The whole cost."""
        return sum((attempt.cost for attempt in self.attempts), Cost())

    def save(self, folder: Path | str) -> None:
        """Write every picture, ``best.png``, ``sheet.png`` and ``result.json`` into a folder.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = Path(folder)
        prepare(folder)
        for attempt in self.attempts:
            save_picture(folder / file_name(attempt), attempt.generation)
        self.save_summary(folder)

    def save_summary(self, folder: Path) -> None:
        """Write ``best.png``, ``sheet.png`` and ``result.json`` beside the pictures.

        Raises:
            OutputError: the folder cannot be written.
        """
        shown = dict.fromkeys((0, self.best_index))
        save_picture(folder / "best.png", self.best.generation)
        save_png(
            folder / "sheet.png",
            sheet(self.request.prompt, [self.attempts[place] for place in shown]),
        )
        write_text(folder / "result.json", json.dumps(to_record(self), indent=2) + "\n")


def select(attempts: Sequence[Attempt]) -> int:
    """The place of the attempt to keep.

    An accepted one, else the best score with the original among the contestants. Ties go to the
    likeliest, where the verifier gives probabilities, then to the earliest; an unscored picture
    never wins over a scored one.

    Raises:
        ValueError: there is no attempt.
    """
    if not attempts:
        raise ValueError("there is no attempt to select from")

    def merit(place: int) -> tuple[bool, bool, float, float]:
        verdict = attempts[place].verdict
        accepted, score = verdict.accepted, verdict.score
        score = -1.0 if score is None else score
        return accepted is True, accepted is not None, score, verdict.probability or 0.0

    return max(range(len(attempts)), key=merit)


def file_name(attempt: Attempt) -> str:
    """``original.png`` for the first picture, then ``attempt-1.png`` and so on."""
    return f"attempt-{attempt.index}.png" if attempt.index else "original.png"


def to_record(result: Result) -> dict[str, Any]:
    """The whole result as JSON values; pictures appear by the name of their file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "request": asdict(result.request),
        "checklist": asdict(result.checklist),
        "attempts": [_attempt_record(attempt) for attempt in result.attempts],
        "best": result.best_index,
        "accepted": result.accepted,
        "ended": result.ended,
        "cost": cost_record(result.cost),
    }


def load_result(folder: Path | str) -> Result:
    """A result as :meth:`Result.save` wrote it, with its pictures.

    Raises:
        SettingsError: there is none, or it is damaged or of another version.
    """
    path = Path(folder) / "result.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has version {record['schema_version']}, not {SCHEMA_VERSION}")
        return Result(
            TypeAdapter(Request).validate_python(record["request"]),
            TypeAdapter(Checklist).validate_python(record["checklist"]),
            tuple(_attempt(one, path.parent) for one in record["attempts"]),
            TypeAdapter(Ended | None).validate_python(record["ended"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        text = "a value is damaged" if isinstance(error, ValidationError) else str(error)
        raise SettingsError(
            f"{str(path)!r} cannot be read ({text.splitlines()[0][:200] if text else 'damaged'}); "
            "give a folder that npc correct has written."
        ) from None


def cost_record(cost: Cost) -> dict[str, Any]:
    """A cost as JSON values, with the VLMs' part beside the drawing's."""
    usage = asdict(cost.usage)
    return {
        "images": cost.images,
        "evaluations": cost.evaluations,
        "seconds": cost.seconds,
        "vlm_calls": usage.pop("calls"),
        "vlm_seconds": usage.pop("seconds"),
        "tokens": cost.usage.tokens,
        **usage,
    }


def read_cost(record: Mapping[str, Any]) -> Cost:
    """A cost from what :func:`cost_record` made of it.

    Raises:
        ValueError: a value is missing or of the wrong type.
    """
    names = {"calls": "vlm_calls", "seconds": "vlm_seconds"}
    usage = {f.name: record[names.get(f.name, f.name)] for f in fields(Usage)}
    return TypeAdapter(Cost).validate_python(dict(record) | {"usage": usage})


def _attempt_record(attempt: Attempt) -> dict[str, Any]:
    verdict, generation = attempt.verdict, attempt.generation
    drawn = vars(generation.drawing) | vars(generation)
    return {
        "index": attempt.index,
        "file": file_name(attempt),
        "generation": {k: v for k, v in drawn.items() if k not in ("image", "drawing", "origin")},
        "verdict": asdict(verdict) | {"accepted": verdict.accepted, "score": verdict.score},
        "ranked": asdict(attempt.ranked) if attempt.ranked else None,
        "caption": asdict(attempt.caption) if attempt.caption else None,
        "cost": cost_record(attempt.cost),
    }


def _attempt(record: Mapping[str, Any], folder: Path) -> Attempt:
    """An attempt from its record; only pictures of the names that are written are opened."""
    index = TypeAdapter(int).validate_python(record["index"])
    name = f"attempt-{index}.png" if index else "original.png"
    with Image.open(folder / name, formats=("PNG",)) as picture:
        picture.load()
    written = record["generation"]
    drawing = {f.name: written[f.name] for f in fields(Drawing) if f.name in written}
    generation = {f.name: written[f.name] for f in fields(Generation) if f.name in written}
    whole = dict(record) | {
        "generation": generation | {"drawing": drawing, "image": picture},
        "cost": read_cost(record["cost"]),
    }
    return TypeAdapter(Attempt).validate_python(whole)

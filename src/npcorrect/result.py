"""The result of a correction: which picture is kept, and how it is written and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from npcorrect.errors import SettingsError
from npcorrect.faults import fault
from npcorrect.files import (
    given_path,
    open_picture,
    prepare,
    read_json,
    read_text,
    save_picture,
    save_png,
    write_text,
)
from npcorrect.provenance import Provenance
from npcorrect.records import Attempt, Checklist, Cost, Drawing, Generation, Request, Usage
from npcorrect.sheet import sheet

SCHEMA_VERSION = 4
REMEDY = "give a folder that npc correct has written"
"""What to do about a record that cannot be read."""
Ended = Literal["accepted", "exhausted", "unscored", "budget", "stopped"]
"""Why a correction made no more attempts: a picture was accepted, the candidates were used up, the
original could not be scored, the budget was spent, or it was stopped."""
Outcome = Literal["accepted", "corrected", "not accepted", "unscored"]
"""What a correction came to: the original was accepted, or another picture, or none, or nobody
could tell."""


@dataclass(frozen=True)
class Result:
    """What a correction has come to. ``ended`` is None as long as it goes on."""

    request: Request
    checklist: Checklist
    attempts: tuple[Attempt, ...]
    ended: Ended | None = None
    made_with: Provenance | None = None

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
    def shown(self) -> tuple[Attempt, ...]:
        """The original, and beside it the chosen attempt where that is another."""
        return tuple(self.attempts[place] for place in dict.fromkeys((0, self.best_index)))

    @property
    def accepted(self) -> bool:
        """Whether the verifier accepted the chosen picture."""
        return bool(self.attempts) and self.best.verdict.accepted is True

    @property
    def outcome(self) -> Outcome:
        """What the correction has come to so far."""
        if self.accepted:
            return "corrected" if self.best_index else "accepted"
        scored = any(attempt.verdict.accepted is not None for attempt in self.attempts)
        return "not accepted" if scored else "unscored"

    @property
    def cost(self) -> Cost:
        """The sum of all attempts' costs; zero where there is no attempt."""
        return sum((attempt.cost for attempt in self.attempts), Cost())

    def save(self, folder: Path | str) -> None:
        """Write every picture, ``best.png``, ``sheet.png`` and ``result.json`` into a folder.

        Raises:
            OutputError: the folder cannot be written.
            SettingsError: there is no attempt yet, or that is no path.
        """
        if not self.attempts:
            raise SettingsError("There is no attempt yet, so there is nothing to save.")
        folder = given_path(folder)
        prepare(folder)
        for attempt in self.attempts:
            self.save_attempt(folder, attempt)
        self.save_summary(folder)

    def save_attempt(self, folder: Path, attempt: Attempt) -> None:
        """Write the picture of an attempt.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._save_picture(folder / file_name(attempt.index), attempt)

    def save_summary(self, folder: Path) -> None:
        """Write ``best.png`` and ``sheet.png``, and when they are there ``result.json``.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._save_picture(folder / "best.png", self.best)
        save_png(folder / "sheet.png", sheet(self.request.prompt, self.shown))
        self.save_record(folder)

    def save_record(self, folder: Path) -> None:
        """Write ``result.json`` alone.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(folder / "result.json", json.dumps(to_record(self), indent=2) + "\n")

    def _save_picture(self, path: Path, attempt: Attempt) -> None:
        record = json.dumps(picture_record(self, attempt)) if self.made_with else ""
        save_picture(path, attempt.generation, self.made_with, record)


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


def file_name(index: int) -> str:
    """``original.png`` for the first picture, then ``attempt-1.png`` and so on."""
    return f"attempt-{index}.png" if index else "original.png"


def to_record(result: Result) -> dict[str, Any]:
    """The whole result as JSON values; pictures appear by the name of their file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "request": asdict(result.request),
        "made_with": asdict(result.made_with) if result.made_with else None,
        "checklist": asdict(result.checklist),
        "attempts": [_attempt_record(attempt) for attempt in result.attempts],
        "best": result.best_index if result.attempts else None,
        "accepted": result.accepted,
        "outcome": result.outcome,
        "ended": result.ended,
        "cost": cost_record(result.cost),
    }


def picture_record(result: Result, attempt: Attempt) -> dict[str, Any]:
    """What is needed to draw the picture of one attempt again; it travels in the picture.

    All attempts up to this one, because it may begin with another's picture or share its batch,
    and nothing of who judged them: addresses of servers are nobody else's business.
    """
    assert result.made_with is not None
    upto = result.attempts[: attempt.index + 1]
    return {
        "schema_version": SCHEMA_VERSION,
        "picture": attempt.index,
        "request": asdict(result.request),
        "made_with": asdict(result.made_with) | {"roles": {}, "vlms": {}},
        "attempts": [
            {"generation": generation_record(a.generation), "cost": {"images": a.cost.images}}
            for a in upto
        ],
    }


def load_result(place: Path | str) -> Result:
    """A result as :meth:`Result.save` wrote it, with its pictures.

    ``place`` is the folder, or its ``result.json``.

    Raises:
        SettingsError: there is none, or it is damaged or of another version.
    """
    path = record_path(place)
    record = read_record(path)
    try:
        rows = enumerate(record["attempts"])
        return _result(record, tuple(_attempt(place, row, path.parent) for place, row in rows))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from None


def read_record(path: Path, remedy: str = REMEDY) -> Mapping[str, Any]:
    """A ``result.json`` as JSON values, of this version; ``remedy`` ends the message of an error.

    Raises:
        SettingsError: it cannot be read, is of another version, or is no record of a result.
    """
    text = read_text(path)
    try:
        record = read_json(text)
        if not isinstance(record, dict):
            raise TypeError("it is no object")
        if record["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has version {record['schema_version']}, not {SCHEMA_VERSION}")
        if not isinstance(record["attempts"], list):
            raise TypeError("its attempts are no list")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error, remedy) from None
    checked: Mapping[str, Any] = record
    return checked


def record_path(place: Path | str) -> Path:
    """The ``result.json`` of a folder, or the file itself.

    Raises:
        SettingsError: it is no path.
    """
    path = given_path(place)
    return path / "result.json" if path.is_dir() else path


def damaged(path: Path, error: Exception, remedy: str = REMEDY) -> SettingsError:
    """The error, to be raised, that names the file, why it is unreadable, and the remedy."""
    text = "a value is damaged" if isinstance(error, ValidationError) else str(error)
    reason = text.splitlines()[0][:200] if text else "damaged"
    return SettingsError(f"{str(path)!r} cannot be read ({reason}); {remedy}.")


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """What makes records of a kind from JSON values; made once, which takes a while."""
    return TypeAdapter(kind)


def read_request(record: Mapping[str, Any]) -> tuple[Request, Provenance | None, Ended | None]:
    """What a record was asked for, how it is made, and why it ended.

    Raises:
        ValueError: a value is missing or of the wrong type.
    """
    return (
        adapter(Request).validate_python(record.get("request")),
        adapter(Provenance | None).validate_python(record.get("made_with")),
        adapter(Ended | None).validate_python(record.get("ended")),
    )


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
    usage = {f.name: record[names.get(f.name, f.name)] for f in fields(Usage) if f.name != "swaps"}
    swaps = record.get("swaps", 0)
    values = dict(record) | {"usage": usage | {"swaps": swaps}}
    cost: Cost = adapter(Cost).validate_python(values)
    return cost


def generation_record(generation: Generation) -> dict[str, Any]:
    """How a picture was drawn, as JSON values; its origin is not among them."""
    drawn = vars(generation.drawing) | vars(generation)
    kept = {k: v for k, v in drawn.items() if k not in ("image", "drawing", "origin")}
    return kept | {"receipt": asdict(generation.receipt) if generation.receipt else None}


def read_drawing(written: Mapping[str, Any]) -> Drawing:
    """The drawing from what :func:`generation_record` made of a generation, without an origin.

    Raises:
        ValueError: a value is missing or of the wrong type.
    """
    values = {f.name: written[f.name] for f in fields(Drawing) if f.name in written}
    drawing: Drawing = adapter(Drawing).validate_python(values)
    return drawing


def _attempt_record(attempt: Attempt) -> dict[str, Any]:
    verdict = attempt.verdict
    checks = [asdict(check) | {"fault": fault(check)} for check in verdict.checks]
    judged = {"accepted": verdict.accepted, "score": verdict.score, "checks": checks}
    return {
        "index": attempt.index,
        "file": file_name(attempt.index),
        "generation": generation_record(attempt.generation),
        "verdict": asdict(verdict) | judged,
        "ranked": asdict(attempt.ranked) if attempt.ranked else None,
        "caption": asdict(attempt.caption) if attempt.caption else None,
        "cost": cost_record(attempt.cost),
    }


def _result(record: Mapping[str, Any], attempts: tuple[Attempt, ...]) -> Result:
    request, made_with, ended = read_request(record)
    checklist = adapter(Checklist).validate_python(record["checklist"])
    return Result(request, checklist, attempts, ended, made_with)


def _attempt(place: int, record: Mapping[str, Any], folder: Path) -> Attempt:
    """An attempt from its record; only pictures of the names that are written are opened."""
    if record["index"] != place:
        raise ValueError(f"attempt {place} has the index {record['index']!r}")
    written = record["generation"]
    generation = {f.name: written[f.name] for f in fields(Generation) if f.name in written}
    picture = open_picture(folder / file_name(place))
    whole = dict(record) | {
        "generation": generation | {"drawing": read_drawing(written), "image": picture},
        "cost": read_cost(record["cost"]),
    }
    attempt: Attempt = adapter(Attempt).validate_python(whole)
    return attempt

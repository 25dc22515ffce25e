"""What the page shows of each prompt and seed: every method's pictures, and what was said."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from npcorrect.evaluation.report.columns import Column
from npcorrect.evaluation.report.summary import Report
from npcorrect.evaluation.run.records import Record, Step
from npcorrect.evaluation.run.store import Store
from npcorrect.faults import WORDS, asked_and_seen

THUMBNAIL = 256
"""Longest side of a picture in the page; larger ones are reduced."""
_VERDICTS = WORDS | {None: "no verdict"}
"""A verdict in a word; ``unscored`` is the judge's word here, not the verifier's."""


@dataclass
class _Table:
    """Values that the page has once, however often they are shown."""

    values: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def place(self, value: str) -> int:
        """The place of a value in the table."""
        if value not in self._places:
            self._places[value] = len(self.values)
            self.values.append(value)
        return self._places[value]


def page_data(report: Report, colors: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """All that the page's script works with, as JSON values."""
    thumbnails, texts = _Table(), _Table()
    pictures: dict[Path, int | None] = {}
    cards: dict[tuple[int, int], dict[str, Any]] = {}
    for place, column in enumerate(report.columns):
        store = Store(column.run)
        for record in column.records:
            card = cards.setdefault(
                (record.key.repeat, record.key.sample),
                {
                    "tag": record.tag,
                    "prompt": record.prompt,
                    "number": record.key.sample,
                    "seed": record.seed,
                    "difficulty": _level(report, record),
                    "shown": [None] * len(report.columns),
                },
            )
            name = record.picture(record.after(report.images))
            path = store.picture(name)
            if name and path not in pictures:
                uri = _data_uri(store, name)
                pictures[path] = None if uri is None else thumbnails.place(uri)
            shown = _shown(record, report.images, texts)
            card["shown"][place] = shown | {"thumbnail": pictures.get(path) if name else None}
    labels = [column.label for column in report.columns]
    first = report.versus[0].first if report.versus else labels[0]
    return {
        "cards": [cards[key] for key in sorted(cards)],
        "thumbnails": thumbnails.values,
        "texts": texts.values,
        "methods": [
            {"label": c.label, "color": colors[c.label], "folder": _link(c.run, folder)}
            for c in report.columns
        ],
        "reference": labels.index(first),
        "base": _base(report.columns),
        "binary": report.binary,
    }


def _level(report: Report, record: Record) -> str:
    """How hard a record's prompt is; empty where that was not measured."""
    return report.difficulty.prompts[record.key.sample].level if report.difficulty else ""


def _shown(record: Record, images: int, texts: _Table) -> dict[str, Any]:
    """What a method handed over, and each of its attempts up to there."""
    place = record.after(images)
    step, score = record.steps[place], record.score(place)
    return {
        "value": score.value,
        "reason": score.reason,
        "missing": score.missing,
        "raw": score.raw if score.value is None else "",
        "asked": texts.place(score.asked) if score.asked else None,
        "again": score.again,
        "parts": score.parts,
        "chosen": step.chosen,
        "attempts": [_attempt(one) for one in record.steps[: place + 1]],
    }


def _attempt(step: Step) -> dict[str, Any]:
    return {
        "picture": step.image,
        "seed": step.seed,
        "verdict": _VERDICTS[step.accepted],
        "failed": _failed(step) or ([step.error] if step.error else []),
        "negatives": step.negatives,
        "source": step.source,
        "looks": step.looks,
        "value": step.score.value if step.score else None,
        "evaluations": step.cost.evaluations,
    }


def _failed(step: Step) -> list[str]:
    """The claims that the verifier rejects, with what it saw instead where it says so."""
    pairs = zip_longest(step.failed, step.observed[: len(step.failed)], fillvalue="")
    return [asked_and_seen(claim, seen) for claim, seen in pairs]


def _data_uri(store: Store, name: str) -> str | None:
    """A picture, reduced; None where it cannot be read."""
    image = store.image(name)
    if image is None:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    image.save(file, format="WEBP", quality=85)
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"


def _link(run: Path, folder: Path) -> str:
    """The folder of a run's pictures, as the page names it."""
    try:
        return quote(Path(os.path.relpath(run / "images", folder)).as_posix())
    except ValueError:
        return (run / "images").resolve().as_uri()


def _base(columns: Sequence[Column]) -> int:
    return next((place for place, c in enumerate(columns) if c.method == "base"), 0)

"""Prompts taken apart into a Davidsonian scene graph, as DSG-1k and DPG-Bench have them.

Each row of their official file is one question about one prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from npcorrect.evaluation.benchmarks import official
from npcorrect.evaluation.benchmarks.base import SEED_STEP, Sample
from npcorrect.evaluation.benchmarks.official_files import OfficialFile
from npcorrect.evaluation.benchmarks.questions import Asked

_COLUMNS = (
    "item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language"
)  # fmt: skip


def read_items(
    file: OfficialFile, folder: Path | None, tag: Callable[[str], str]
) -> tuple[Sample, ...]:
    """A sample for each item, in the order of the file."""
    rows = official.read_csv(official.locate(file, folder), _COLUMNS)
    items = ((item, list(group)) for item, group in groupby(rows, lambda row: row["item_id"]))
    return tuple(
        Sample(
            number,
            tag(item),
            group[0]["text"],
            SEED_STEP * (number - 1),
            facts={"item": item, "questions": _questions(group)},
        )
        for number, (item, group) in enumerate(items, 1)
    )


def _questions(rows: Sequence[Mapping[str, str]]) -> tuple[Asked, ...]:
    """The questions about an item.

    As upstream reads it, an item with a dependency that is no number has no dependencies at all.
    """
    asked = tuple(
        Asked(
            int(row["proposition_id"]),
            row["question_natural_language"],
            kind=row["tuple"].split("(")[0].strip(),
        )
        for row in rows
    )
    try:
        parents = [tuple(int(part) for part in row["dependency"].split(",")) for row in rows]
    except ValueError:
        return asked
    return tuple(
        replace(one, parents=depends_on) for one, depends_on in zip(asked, parents, strict=True)
    )

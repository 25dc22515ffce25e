"""OneIG-Bench's alignment (github.com/OneIG-Bench/OneIG-Benchmark, arXiv 2506.07977).

Its English prompts of the classes anime, human and object, 695 of them, with four pictures each in
one grid. A question counts as wrong where one that it depends on is *answered* wrongly. Upstream
asks Qwen2.5-VL-7B-Instruct.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import (
    SEED_STEP,
    Figure,
    Judged,
    Place,
    Sample,
    Score,
    figure,
)
from npcorrect.evaluation.benchmarks.official import locate, read_csv
from npcorrect.evaluation.benchmarks.official_files import ONEIG_PROMPTS, ONEIG_QUESTIONS
from npcorrect.evaluation.benchmarks.questions import Asked, QuestionBenchmark

_CLASSES = {"Anime_Stylization": "anime", "Portrait": "human", "General_Object": "object"}
"""The categories that are judged for alignment, and the folders of their pictures."""


class OneIGAlignment(QuestionBenchmark):
    """The benchmark, from the official files in ``folder`` or in the user's cache."""

    name = "oneig"
    upstream_judge = "local:Qwen/Qwen2.5-VL-7B-Instruct"
    files = (ONEIG_PROMPTS, *ONEIG_QUESTIONS.values())
    repeats = 4
    grid = 2

    def read_samples(self) -> Sequence[Sample]:
        """One sample for each prompt; tags are the classes."""
        return tuple(
            Sample(n, name, row["prompt_en"], SEED_STEP * (n - 1), facts=facts)
            for n, (name, row, facts) in enumerate(self._rows(), 1)
        )

    def _rows(self) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
        asked = {
            name: json.loads(locate(file, self.folder).read_text(encoding="utf-8"))
            for name, file in ONEIG_QUESTIONS.items()
        }
        columns = ("category", "id", "prompt_en")
        for row in read_csv(locate(ONEIG_PROMPTS, self.folder), columns):
            if name := _CLASSES.get(row["category"]):
                questions = _questions(asked[name][row["id"]])
                yield name, row, {"item": row["id"], "questions": questions}

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The official alignment score: the mean over all prompts, 0 to 1."""
        return (figure("alignment", judged),)

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """A folder for each class and image model, and the prompt's id."""
        start = f"{sample.tag}/{{method}}/{sample.facts['item']}"
        return tuple(f"{start}.{end}" for end in ("webp", "png", "jpg", "jpeg"))

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores in upstream's file of prompts' scores, each the mean of its grid.

        Raises:
            SettingsError: it has several image models, or does not fit.
        """
        rows = read_csv(path, ("",))
        models = [name for name in rows[0] if name] if rows else []
        if len(models) != 1:
            raise SettingsError(
                f"{str(path)!r} has {len(models)} image models; keep the column of one."
            )
        known = {f"{s.tag}_{s.facts['item']}": s.id for s in self.samples()}
        return {
            (known[row[""]], 0): _score(path, row[models[0]]) for row in rows if row[""] in known
        }


def _questions(item: Mapping[str, str]) -> tuple[Asked, ...]:
    texts, parents = json.loads(item["question"]), json.loads(item["dependency"])
    return tuple(
        Asked(int(name), text, parents=tuple(parents.get(name, ()))) for name, text in texts.items()
    )


def _score(path: Path, text: str) -> Score:
    if not text:
        return Score(None, "upstream's script gave no score")
    try:
        return Score(float(text))
    except ValueError:
        raise SettingsError(f"{str(path)!r} has the score {text!r}, which is no number.") from None

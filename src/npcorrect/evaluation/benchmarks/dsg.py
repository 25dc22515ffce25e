"""DSG-1k (github.com/j-min/DSG, arXiv 2310.18235): 1,060 prompts of ten sources, eight categories.

A question counts as wrong where one that it depends on is *answered* wrongly. Upstream asks
mPLUG-large, InstructBLIP or PaLI; its script reads their answers from a CSV file.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import (
    Figure,
    Judged,
    Place,
    Sample,
    Score,
    figure,
    missing_as_wrong,
)
from npcorrect.evaluation.benchmarks.official import read_csv
from npcorrect.evaluation.benchmarks.official_files import DSG
from npcorrect.evaluation.benchmarks.questions import QuestionBenchmark, answered, asked_about
from npcorrect.evaluation.benchmarks.scene_graph import read_items
from npcorrect.files import write_text

_ANSWERS = (
    "dsg_prompt_split", "qg_model", "t2i_model", "item_id", "question", "question_id",
    "dependency_id", "answer",
)  # fmt: skip
_CATEGORIES = {
    "tifa": "tifa",
    "stanford": "paragraph",
    "localized": "paragraph",
    "countbench": "count",
    "vrd": "relation",
    "diffusiondb": "real_user",
    "midjourney": "real_user",
    "posescript": "pose",
    "whoops": "defying",
    "drawtext": "text",
}
"""The categories that DSG-1k is reported by, by the beginning of an item's id."""


class DSG1k(QuestionBenchmark):
    """The benchmark, from the official file in ``folder`` or in the user's cache."""

    name = "dsg-1k"
    upstream_judge = "mPLUG-large, InstructBLIP or PaLI-17B"
    files = (DSG,)

    def read_samples(self) -> Sequence[Sample]:
        """One sample for each item; tags are the categories."""
        return read_items(DSG, self.folder, _category)

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The mean over all items; as upstream has it, one without answers counts as wrong."""
        return (figure("DSG score", judged, missing_as_wrong),)

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """The names under which a picture of the item may lie, by preference JPEG."""
        return tuple(f"{sample.facts['item']}.{end}" for end in ("jpg", "png", "jpeg", "webp"))

    def write_results(
        self,
        samples: Sequence[Sample],
        scores: Mapping[Place, Score],
        pictures: Mapping[Place, Path],
        folder: Path,
    ) -> None:
        """The answers of scored pictures, in the form of upstream's published ones."""
        text = StringIO()
        writer = csv.DictWriter(text, _ANSWERS, lineterminator="\n")
        writer.writeheader()
        for sample in samples:
            score = scores.get((sample.id, sample.repeat))
            if score and score.value is not None:
                writer.writerows(_answer_rows(sample, score))
        write_text(folder / "answers.csv", text.getvalue())

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores that a file of answers means.

        Raises:
            SettingsError: it has the answers for several image models, or does not fit.
        """
        rows = [row for row in read_csv(path, _ANSWERS) if row["qg_model"] == "dsg"]
        models = sorted({row["t2i_model"] for row in rows})
        if len(models) != 1:
            raise SettingsError(
                f"{str(path)!r} has answers for {len(models)} image models "
                f"({', '.join(models[:9])}); keep the rows of one."
            )
        answers: dict[str, dict[str, str]] = {}
        for row in rows:
            answers.setdefault(row["item_id"], {})[row["question_id"]] = row["answer"]
        return {
            (sample.id, 0): _from_answers(sample, answers[sample.facts["item"]])
            for sample in self.samples()
            if sample.facts["item"] in answers
        }


def _category(item: str) -> str:
    return next(category for start, category in _CATEGORIES.items() if item.startswith(start))


def _answer_rows(sample: Sample, score: Score) -> list[dict[str, Any]]:
    item = sample.facts["item"]
    about = {"dsg_prompt_split": item.rsplit("_", 1)[0], "qg_model": "dsg", "t2i_model": "npc"}
    rows = zip(asked_about(sample), score.parts, strict=True)
    return [
        about
        | {
            "item_id": item,
            "question": one.text,
            "question_id": one.id,
            "dependency_id": ",".join(map(str, one.parents)),
            "answer": "yes" if right else "no",
        }
        for one, (_, right) in rows
    ]


def _from_answers(sample: Sample, answers: Mapping[str, str]) -> Score:
    asked = asked_about(sample)
    missing = [one.text for one in asked if str(one.id) not in answers]
    if missing:
        return Score(None, f"no answer to {'; '.join(missing)}")
    return answered(asked, [answers[str(one.id)] for one in asked])

"""DPG-Bench (github.com/TencentQQGYLab/ELLA, arXiv 2403.05135): 1,065 dense prompts.

A question counts as wrong where one that it depends on counts as wrong. Upstream asks mPLUG-large
about each quarter of a grid of two by two pictures. Its script passes over the file's first row,
which is kept here, and fails on the first item where another question depends on that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Figure, Judged, Place, Sample, Score, Term, figure
from npcorrect.evaluation.benchmarks.official_files import DPG
from npcorrect.evaluation.benchmarks.questions import QuestionBenchmark
from npcorrect.evaluation.benchmarks.scene_graph import read_items


class DPGBench(QuestionBenchmark):
    """The benchmark, from the official file in ``folder`` or in the user's cache."""

    name = "dpg"
    upstream_judge = "mPLUG-large (damo/mplug_visual-question-answering_coco_large_en)"
    files = (DPG,)
    repeats = 4
    grid = 2
    cascading = True

    def read_samples(self) -> Sequence[Sample]:
        """One sample for each item of the official table, all of one tag."""
        return read_items(DPG, self.folder, lambda item: "dense prompt")

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The mean over prompts, and the share of right answers in each broad category."""
        kinds: dict[str, list[float]] = {}
        for one in judged:
            for score in one.scores:
                for label, value in score.parts:
                    kinds.setdefault(_broad(label), []).append(value)
        broad = (
            Figure(kind, (Term("", sum(values), len(values)),)) for kind, values in kinds.items()
        )
        return figure("DPG-Bench score", judged), *broad

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """The names that upstream's script looks for: the prompt file's, by preference PNG."""
        return tuple(f"{sample.facts['item']}.{end}" for end in ("png", "jpg", "jpeg", "webp"))

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores in upstream's file of results: a line for each grid, its mean last.

        Raises:
            SettingsError: it does not fit.
        """
        known = {sample.facts["item"]: sample.id for sample in self.samples()}
        scores = {}
        try:
            for line in path.read_text(encoding="utf-8").split("\n"):
                name, *values = line.split(", ")
                item = Path(name).name.split(".")[0]
                if len(values) > 1 and item in known:
                    for repeat, value in enumerate(values[:-1]):
                        scores[known[item], repeat] = _share(float(value))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{str(path)!r} is no result file of DPG-Bench ({error})."
            ) from None
        if not scores:
            raise SettingsError(f"{str(path)!r} has no line for any prompt of DPG-Bench.")
        return scores


def _broad(label: str) -> str:
    """The broad category of a question: upstream's part of its kind before the first hyphen."""
    return label.partition(":")[0].partition("-")[0].strip()


def _share(value: float) -> Score:
    if not 0 <= value <= 1:
        raise ValueError(f"{value:g} is not from 0 to 1")
    return Score(value)

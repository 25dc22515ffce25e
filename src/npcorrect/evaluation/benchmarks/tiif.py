"""TIIF-Bench's types of negation (github.com/A113N-W3I/TIIF-Bench, arXiv 2506.02161).

Every line has a short and a long prompt, which are asked about alike. A type's figure is the share
of all its questions that are answered as they should be. Upstream asks GPT-4o all questions of a
picture at once, at temperature 1; here each is asked alone, at temperature 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import (
    SEED_STEP,
    Figure,
    Judged,
    Place,
    Sample,
    Score,
    Term,
)
from npcorrect.evaluation.benchmarks.official import lines, locate
from npcorrect.evaluation.benchmarks.official_files import FILES, TIIF_NEGATION
from npcorrect.evaluation.benchmarks.questions import (
    Asked,
    QuestionBenchmark,
    answered,
    asked_about,
)

_LENGTHS = ("short", "long")


class TIIFNegation(QuestionBenchmark):
    """The whole set: 235 lines in five types, 470 prompts."""

    name = "tiif-negation"
    subset: ClassVar[str] = "test"
    upstream_judge = "openai:gpt-4o"
    files = FILES["tiif-negation"]

    def read_samples(self) -> Sequence[Sample]:
        """One sample for each line and length; tags are the type and the length."""
        rows = enumerate(self._rows(), 1)
        return tuple(
            Sample(n, f"{facts['kind']}, {facts['length']}", prompt, SEED_STEP * (n - 1), 0, facts)
            for n, (prompt, facts) in rows
        )

    def _rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for kind, files in TIIF_NEGATION[self.subset].items():
            prompts, checks = (lines(locate(file, self.folder)) for file in files)
            for place, (row, check) in enumerate(zip(prompts, checks, strict=True)):
                asked = _questions(check["yn_question_list"], check["yn_answer_list"])
                for length in _LENGTHS:
                    about = {"kind": kind, "length": length, "line": place, "questions": asked}
                    yield row[f"{length}_description"], about

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The mean of the types' shares of right answers, over both lengths and for each."""
        terms: dict[str, list[Term]] = {}
        for one in judged:
            values = [value for score in one.scores for _, value in score.parts]
            terms.setdefault(one.tag, []).append(Term(one.tag, sum(values), len(values)))
        whole = Figure("mean of types", tuple(term for tag in terms.values() for term in tag))
        return whole, *(_of_length(whole, length) for length in _LENGTHS)

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """A folder for each type, image model and length, and the number of the line from 0."""
        kind, length, line = (sample.facts[name] for name in ("kind", "length", "line"))
        start = f"{kind}/{{method}}/{length}_description/{line}"
        return tuple(f"{start}.{end}" for end in ("png", "jpg", "jpeg", "webp"))

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores in upstream's folder of results, a JSON file for each picture.

        Raises:
            SettingsError: there is none, or one does not fit.
        """
        known = {(s.facts["kind"], s.facts["length"], s.facts["line"]): s for s in self.samples()}
        scores = {}
        for file in sorted(path.rglob("*.json")):
            try:
                row = json.loads(file.read_text(encoding="utf-8"))
                length = str(row["desc"]).split("_")[0]
                sample = known.get((row["attribute"], length, row["line_idx"]))
                if sample is not None:
                    score = answered(asked_about(sample), row["model_pred"])
                    scores[sample.id, 0] = score
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise SettingsError(
                    f"{str(file)!r} is no result of TIIF-Bench ({error!r})."
                ) from None
        if not scores:
            raise SettingsError(
                f"{str(path)!r} has no result of TIIF-Bench's negation; give the folder of one "
                "image model that its script wrote."
            )
        return scores


class TIIFNegationMini(TIIFNegation):
    """The subset ``testmini``, which published figures are mostly of: 24 lines, 48 prompts."""

    name = "tiif-negation-mini"
    subset = "testmini"
    files = FILES["tiif-negation-mini"]


def _questions(texts: Sequence[str], answers: Sequence[str]) -> tuple[Asked, ...]:
    pairs = enumerate(zip(texts, answers, strict=True), 1)
    return tuple(Asked(n, text.strip(), answer.strip().casefold()) for n, (text, answer) in pairs)


def _of_length(whole: Figure, length: str) -> Figure:
    terms = tuple(term for term in whole.terms if term.group.endswith(f", {length}"))
    return Figure(f"mean of types, {length} prompts", terms)

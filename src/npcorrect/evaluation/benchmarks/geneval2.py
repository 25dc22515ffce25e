"""GenEval 2 (github.com/facebookresearch/GenEval2): 800 prompts taken apart into questions.

Soft-TIFA: a picture has the probability that a model gives the right answer to each question; their
geometric mean is the prompt's score, their arithmetic mean serves the single skills. Upstream sums
the probabilities of the right answer's spellings among all tokens; here they are taken among the
answers that a question has, so that any model can be asked. The data are CC BY-NC 4.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path

from PIL.Image import Image

from npcorrect.english import NUMBERS, singular
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import SEED_STEP, Figure, Judge, Sample, Score
from npcorrect.evaluation.benchmarks.official import GENEVAL2, lines, locate, write_json
from npcorrect.evaluation.run.judge import VLMJudge
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.base import VLM, Message, Question, Reply

SKILLS = {
    "object": "object",
    "count": "count",
    "attribute": "attribute",
    "position": "relation",
    "verb": "relation",
}
"""The kind of requirement that stands for a skill."""


@dataclass(frozen=True)
class GenEval2:
    """The benchmark, from the official file in ``folder`` or in the user's cache."""

    folder: Path | None = None
    name: str = "geneval2"
    scale: float = 1.0
    upstream_judge: str = "local:Qwen/Qwen3-VL-8B-Instruct"

    def samples(self) -> tuple[Sample, ...]:
        """One sample for each line; tags are the number of atoms."""
        return self._samples

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        rows = enumerate(lines(locate(GENEVAL2, self.folder)), 1)
        return tuple(
            Sample(n, f"{row['atom_count']} atoms", row["prompt"], SEED_STEP * (n - 1), facts=row)
            for n, row in rows
        )

    def checksum(self) -> str:
        """That of the official file, which was verified."""
        return GENEVAL2.sha256

    def checklist(self, sample: Sample) -> Checklist:
        """A requirement for each question."""
        pairs = zip(sample.facts["vqa_list"], sample.facts["skills"], strict=True)
        return Checklist(
            sample.prompt,
            tuple(
                Requirement(f"r{n}", SKILLS[skill], f"{question} {answer}", _noun(question), answer)
                for n, ((question, answer), skill) in enumerate(pairs, 1)
            ),
        )

    def figures(self, scores: Mapping[int, Sequence[Score]]) -> tuple[Figure, ...]:
        """Soft-TIFA, geometric and arithmetic, and the arithmetic one by skill."""
        of = {sample.id: sample.facts["skills"] for sample in self.samples()}
        scored = [(of[n], s) for n, all_of in scores.items() for s in all_of if s.value is not None]
        atoms = [[value for _, value in score.parts] for _, score in scored]
        skills: dict[str, list[float]] = {name: [] for name in SKILLS}
        for (names, _), values in zip(scored, atoms, strict=True):
            for name, value in zip(names, values, strict=True):
                skills[name].append(value)
        return (
            Figure("Soft-TIFA GM", _mean([geometric_mean(values) for values in atoms])),
            Figure("Soft-TIFA AM", _mean([sum(values) / len(values) for values in atoms])),
            *(Figure(f"AM, {name}", _mean(values)) for name, values in skills.items()),
        )

    def judge(self, vlm: VLM | None) -> Judge:
        """The model, asked what this benchmark asks."""
        assert vlm is not None
        return VLMJudge(self, vlm)

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """By the line's number; upstream's script takes any name from a file of paths."""
        return tuple(f"{sample.id}.{ending}" for ending in ("png", "jpg", "jpeg", "webp"))

    def write_results(
        self, scores: Mapping[int, Score], pictures: Mapping[int, Path], folder: Path
    ) -> None:
        """Upstream's file of picture paths, and its lists of scores where every one is scored."""
        prompts = {sample.id: sample.prompt for sample in self.samples()}
        paths = {prompts[number]: str(path) for number, path in pictures.items()}
        write_json(folder / "image_paths.json", paths)
        if all(n in scores and scores[n].value is not None for n in prompts):
            lists = [[value for _, value in scores[n].parts] for n in prompts]
            write_json(folder / "score_lists.json", lists)

    def read_results(self, path: Path) -> dict[int, Score]:
        """The scores in upstream's file of lists.

        Raises:
            SettingsError: it does not fit the benchmark.
        """
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
            pairs = list(zip(self.samples(), lists, strict=True))
            return {s.id: soft_tifa(s.facts["vqa_list"], values) for s, values in pairs}
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{str(path)!r} has no list of scores for each of the prompts ({error})."
            ) from None

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """One question for each atom, to be answered in one word."""
        return tuple(
            Question(
                (Message("user", f"{question} Answer in one word.", (image,)),),
                choices=NUMBERS if _counts(question) else ("Yes", "No"),
                max_tokens=8,
            )
            for question, _ in sample.facts["vqa_list"]
        )

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The geometric mean of the right answers' probabilities."""
        pairs = sample.facts["vqa_list"]
        for reply in replies:
            if not reply.probabilities:
                raise ValueError("the model gives no probabilities; use one that does")
        values = [
            reply.probabilities.get(answer, 0.0)
            for (_, answer), reply in zip(pairs, replies, strict=True)
        ]
        return soft_tifa(pairs, values)


def soft_tifa(pairs: Sequence[Sequence[str]], values: Sequence[float]) -> Score:
    """The score of a picture from the probability of each right answer.

    Raises:
        ValueError: they do not fit the questions, or are no probabilities.
    """
    if not pairs or any(not 0 <= value <= 1 + 1e-6 for value in values):
        raise ValueError("a score is not from 0 to 1")
    parts = tuple(
        (f"{question} {answer}", float(value))
        for (question, answer), value in zip(pairs, values, strict=True)
    )
    doubtful = [text for text, value in parts if value < 0.5]
    return Score(geometric_mean([value for _, value in parts]), "; ".join(doubtful), parts=parts)


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product."""
    return float(prod(values) ** (1 / len(values)))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _counts(question: str) -> bool:
    return question.startswith("How many")


def _noun(question: str) -> str:
    """The noun of a question about objects or their number; empty where it asks something else."""
    for start, end in (("How many ", " are in the image?"), ("Are there any ", " in the image?")):
        if question.startswith(start) and question.endswith(end):
            return singular(question.removeprefix(start).removesuffix(end))
    return ""

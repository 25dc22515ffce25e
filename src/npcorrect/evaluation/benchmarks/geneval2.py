"""GenEval 2 (github.com/facebookresearch/GenEval2): 800 prompts taken apart into questions.

Soft-TIFA: to each question, a picture has the probability that the model's first token is the right
answer, summed over its spellings; the geometric mean of these is the prompt's score, their
arithmetic mean serves the single skills. TIFA is the share of questions whose likeliest first token
is right, VQAScore the probability of *yes* to one question about the whole prompt. The data are
CC BY-NC 4.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path

from PIL.Image import Image

from npcorrect.english import NUMBERS, singular
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import (
    SEED_STEP,
    Figure,
    Judged,
    Place,
    Sample,
    Score,
    Term,
    figure,
    part_of,
)
from npcorrect.evaluation.benchmarks.official import lines, locate, write_json
from npcorrect.evaluation.benchmarks.official_benchmark import OfficialBenchmark
from npcorrect.evaluation.benchmarks.official_files import GENEVAL2
from npcorrect.records import Checklist, Requirement
from npcorrect.vlm.base import Message, Question, Reply

SKILLS = {
    "object": "object",
    "count": "count",
    "attribute": "attribute",
    "position": "relation",
    "verb": "relation",
}
"""The kind of requirement that stands for a skill."""
TIFA, VQA_SCORE = "TIFA", "VQAScore"
"""Among the parts of a score: what upstream's other two methods make of the same picture."""
_WIDE = 0.005
"""Wider bounds of a figure than this are shown."""


class GenEval2(OfficialBenchmark):
    """The benchmark; its judge must give the probabilities of its first tokens."""

    name = "geneval2"
    upstream_judge = "local:Qwen/Qwen3-VL-8B-Instruct"
    files = (GENEVAL2,)

    def read_samples(self) -> Sequence[Sample]:
        """One sample for each line; tags are the number of atoms."""
        rows = enumerate(lines(locate(GENEVAL2, self.folder)), 1)
        return tuple(
            Sample(n, f"{row['atom_count']} atoms", row["prompt"], SEED_STEP * (n - 1), facts=row)
            for n, row in rows
        )

    def checklist(self, sample: Sample) -> Checklist:
        """A requirement for each official question, in their order, with its skill as the kind."""
        return Checklist(
            sample.prompt,
            tuple(
                Requirement(f"r{n}", SKILLS[skill], f"{question} {answer}", _noun(question), answer)
                for n, (question, answer, skill) in enumerate(_atoms(sample), 1)
            ),
        )

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """Soft-TIFA, geometric and arithmetic, the latter by skill, and upstream's other methods.

        Where the model left the geometric one open, the least and the most that it can be follow.
        """
        gm = figure("Soft-TIFA GM", judged)
        low, high = (
            figure(f"Soft-TIFA GM, {word}", judged, partial(_end, end))
            for end, word in enumerate(("at least", "at most"))
        )
        wide = gm.n and (high.value or 0) - (low.value or 0) > _WIDE
        return (
            gm,
            *((low, high) if wide else ()),
            figure("Soft-TIFA AM", judged, _arithmetic_mean),
            *(_of_skill(judged, skill) for skill in SKILLS),
            figure(TIFA, judged, part_of(TIFA)),
            figure(VQA_SCORE, judged, part_of(VQA_SCORE)),
        )

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """By the line's number; upstream's script takes any name from a file of paths."""
        return tuple(f"image/{sample.id}.{end}" for end in ("png", "jpg", "jpeg", "webp"))

    def write_results(
        self,
        samples: Sequence[Sample],
        scores: Mapping[Place, Score],
        pictures: Mapping[Place, Path],
        folder: Path,
    ) -> None:
        """Upstream's file of picture paths, and its lists of scores where every one is scored."""
        paths = {
            sample.prompt: str(pictures[place].resolve())
            for sample in samples
            if (place := (sample.id, sample.repeat)) in pictures
        }
        write_json(folder / "image_paths.json", paths)
        by_prompt = {number: score for (number, _), score in scores.items()}
        everything = [by_prompt.get(sample.id) for sample in self.samples()]
        scored = [score for score in everything if score and score.value is not None]
        if len(scored) == len(everything):
            write_json(folder / "score_lists.json", [_atom_values(score) for score in scored])

    def read_results(self, path: Path) -> dict[Place, Score]:
        """The scores in upstream's file of lists of Soft-TIFA.

        Raises:
            SettingsError: it does not fit the benchmark.
        """
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
            return {
                (sample.id, 0): soft_tifa(_labels(sample), [(value, value) for value in values])
                for sample, values in zip(self.samples(), lists, strict=True)
            }
        except (OSError, ValueError, TypeError) as error:
            raise SettingsError(
                f"{str(path)!r} has no list of scores for each of the prompts ({error})."
            ) from None

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """One question for each atom, to be answered in one word, and one about the whole."""
        texts = [f"{question} Answer in one word." for question, _, _ in _atoms(sample)]
        texts.append(f'Does this image show "{sample.prompt}"? Answer the question with Yes or No.')
        return tuple(
            Question((Message("user", text, (image,)),), max_tokens=1, tokens=True)
            for text in texts
        )

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The geometric mean of the right answers' probabilities.

        Raises:
            ValueError: the model gives no probabilities.
        """
        if not all(reply.tokens for reply in replies):
            raise ValueError("the model gives no probabilities; use one that does")
        *atoms, whole = replies
        right = [spellings(answer) for _, answer, _ in _atoms(sample)]
        pairs = [probability(r.tokens, s) for r, s in zip(atoms, right, strict=True)]
        score = soft_tifa(_labels(sample), pairs)
        hits = [_likeliest(r.tokens) in s for r, s in zip(atoms, right, strict=True)]
        others = (
            (TIFA, sum(hits) / len(hits)),
            (VQA_SCORE, _middle(probability(whole.tokens, spellings("Yes")))),
        )
        return Score(score.value, score.reason, parts=score.parts + others, bounds=score.bounds)


def spellings(answer: str) -> tuple[str, ...]:
    """The first tokens that upstream takes for an answer: *Yes*, or a number as word and digits."""
    forms = ["Yes", "yes"]
    if answer in NUMBERS:
        forms = [answer, answer.capitalize(), str(NUMBERS.index(answer))]
    return tuple(f"{space}{form}" for form in forms for space in ("", " "))


def probability(tokens: Mapping[str, float], answer: Sequence[str]) -> tuple[float, float]:
    """The least and the most that an answer's probability can be, from the likeliest tokens.

    A spelling that is not among them is at most as likely as the last of them, and all of those
    together are at most as likely as what the tokens lack to 1.
    """
    known = sum(tokens.get(spelling, 0.0) for spelling in answer)
    unseen = sum(spelling not in tokens for spelling in answer)
    left = max(0.0, 1 - sum(tokens.values()))
    return min(known, 1.0), min(1.0, known + min(left, unseen * min(tokens.values())))


def soft_tifa(labels: Sequence[str], pairs: Sequence[tuple[float, float]]) -> Score:
    """The score of a picture from the bounds of each right answer's probability.

    Its value and its parts take the middle of them.

    Raises:
        ValueError: they do not fit the questions, or are no probabilities.
    """
    if not pairs or any(not 0 <= end <= 1 + 1e-6 for pair in pairs for end in pair):
        raise ValueError("a score is not from 0 to 1")
    parts = tuple((label, _middle(pair)) for label, pair in zip(labels, pairs, strict=True))
    doubtful = "; ".join(label for label, value in parts if value < 0.5)
    low, high = map(_geometric_mean, zip(*pairs, strict=True))
    value = _geometric_mean([part for _, part in parts])
    bounds = (low, high) if high > low else None
    return Score(value, doubtful, parts=parts, bounds=bounds)


def _geometric_mean(values: Sequence[float]) -> float:
    return float(prod(values) ** (1 / len(values)))


def _middle(pair: tuple[float, float]) -> float:
    return sum(map(float, pair)) / 2


def _likeliest(tokens: Mapping[str, float]) -> str:
    """The model's answer as upstream compares it: in lower case, and then only with such forms."""
    return max(tokens, key=lambda token: tokens[token]).lower()


def _atoms(sample: Sample) -> list[tuple[str, str, str]]:
    """Each question with its answer and its skill."""
    pairs = zip(sample.facts["vqa_list"], sample.facts["skills"], strict=True)
    return [(question, answer, skill) for (question, answer), skill in pairs]


def _labels(sample: Sample) -> list[str]:
    return [f"{skill}: {question} {answer}" for question, answer, skill in _atoms(sample)]


def _atom_values(score: Score) -> list[float]:
    return [value for name, value in score.parts if name not in (TIFA, VQA_SCORE)]


def _arithmetic_mean(score: Score) -> float | None:
    values = _atom_values(score)
    return sum(values) / len(values) if score.value is not None else None


def _end(end: int, score: Score) -> float | None:
    return score.bounds[end] if score.bounds else score.value


def _of_skill(judged: Sequence[Judged], skill: str) -> Figure:
    """The mean of all atoms of a skill, as upstream's analysis has it."""
    terms = []
    for one in judged:
        values = [
            value
            for score in one.scores
            for name, value in score.parts
            if name.startswith(f"{skill}: ")
        ]
        terms.append(Term("", sum(values), len(values)))
    return Figure(f"AM, {skill}", tuple(terms))


def _noun(question: str) -> str:
    """The noun of a question about objects or their number; empty where it asks something else."""
    for start, end in (("How many ", " are in the image?"), ("Are there any ", " in the image?")):
        if question.startswith(start) and question.endswith(end):
            return singular(question.removeprefix(start).removesuffix(end))
    return ""

"""A model as the judge of pictures. What it is asked, and what its answers mean, is a benchmark's.

A reply that cannot be used makes a picture *unscored*, and its raw text is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from PIL.Image import Image

from npcorrect.errors import BudgetError
from npcorrect.evaluation.benchmarks.base import Judge, Picture, Sample, Score
from npcorrect.vlm.base import VLM, Forgetful, Message, Question, Reply, Usage


class Asking(Protocol):
    """What a benchmark asks its judge of a picture, and how it scores the replies."""

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """What a judge asks about one picture; ``read`` takes the replies in this order."""
        ...

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """The score that usable replies mean.

        Raises:
            ValueError: a reply says something else than it was asked.
        """
        ...


@dataclass(frozen=True)
class VLMJudge:
    """A :class:`~npcorrect.evaluation.benchmarks.base.Judge` that asks a model.

    ``seed`` goes with every question; with another one, an answer is not taken from a file.
    """

    asking: Asking
    vlm: VLM
    seed: int | None = None

    @property
    def name(self) -> str:
        """The judging model's name, as its server knows it."""
        return self.vlm.name

    @property
    def remote(self) -> bool:
        """Whether judging mostly waits for a server; see ``Worker.perform``."""
        return self.vlm.remote

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """The score of each picture, all of them asked for together."""
        asked = [self._questions(sample, image) for sample, image in pictures]
        replies = iter(self.vlm.ask([question for group in asked for question in group]))
        return [
            self._score(sample, group, list(islice(replies, len(group))))
            for (sample, _), group in zip(pictures, asked, strict=True)
        ]

    def _questions(self, sample: Sample, image: Image) -> list[Question]:
        questions = self.asking.questions(sample, image)
        return [replace(question, seed=self.seed) for question in questions]

    def _score(
        self, sample: Sample, questions: Sequence[Question], replies: Sequence[Reply]
    ) -> Score:
        raw = "\n".join(reply.text for reply in replies)
        for reply in replies:
            if reply.stopped:
                raise BudgetError(reply.error)
        score = self._read(sample, replies)
        failed = any(reply.error for reply in replies)  # which is not kept
        if score.value is None and not failed and isinstance(self.vlm, Forgetful):
            self.vlm.forget(questions)
        usage = sum((reply.usage for reply in replies), Usage())
        asked = "\n\n".join(_as_text(message) for q in questions for message in q.messages)
        return replace(score, raw=raw, usage=usage, asked=asked)

    def _read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        error = next((reply.error for reply in replies if reply.error), "")
        if error:
            return Score(None, error, fatal=any(reply.fatal for reply in replies))
        try:
            return self.asking.read(sample, replies)
        except ValueError as reason:
            return Score(None, f"not understood: {reason}")


@dataclass(frozen=True)
class RepeatedJudge:
    """Scores every picture several times, to tell how far a judge agrees with itself.

    The first score counts; ``again`` has the values of the others, and the usage is that of all.
    """

    judges: Sequence[Judge]

    @property
    def name(self) -> str:
        """The name that all repetitions of the judge share."""
        return self.judges[0].name

    @property
    def remote(self) -> bool:
        """Whether judging mostly waits for a server; see ``Worker.perform``."""
        return bool(getattr(self.judges[0], "remote", False))

    def scores(self, pictures: Sequence[Picture]) -> list[Score]:
        """The first score of each picture, with the values of the others."""
        rounds = [judge.scores(pictures) for judge in self.judges]
        return [
            replace(
                first,
                again=tuple(score.value for score in others),
                usage=sum((score.usage for score in others), first.usage),
            )
            for first, *others in zip(*rounds, strict=True)
        ]


def repeated(judge: Judge, times: int) -> Judge:
    """The judge, asked so many times about each picture.

    A model is asked with seeds of their own from the second time on, so that it really is asked.
    """
    if times == 1:
        return judge
    again = range(1, times)
    if isinstance(judge, VLMJudge):
        return RepeatedJudge([judge, *(replace(judge, seed=seed) for seed in again)])
    return RepeatedJudge([judge] * times)


def _as_text(message: Message) -> str:
    """A message as a reader sees it."""
    pictures = [_picture(message, image) for image in message.images]
    parts = [message.text, *pictures] if message.text_first else [*pictures, message.text]
    return "\n".join([f"[{message.role}]", *parts])


def _picture(message: Message, image: Image) -> str:
    size = f"{image.width} x {image.height}"
    if message.encoding is None:
        return f"[picture of {size} pixels, in the client's size and format]"
    return f"[picture of {size} pixels, sent whole as {message.encoding.format}]"

"""A model of somebody's own, whose replies are read as those of any server are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npcorrect.errors import VLMError
from npcorrect.vlm.base import Question, Reply
from npcorrect.vlm.cache import fits
from npcorrect.vlm.reasoning import UnusableError
from npcorrect.vlm.replies import read
from npcorrect.vlm.wrapper import VLMWrapper


class OwnVLM(VLMWrapper):
    """Lets through what answers a question; anything else is no answer, and never a wrong one."""

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """A reply for each question, in order, with an error where it is not what was asked for.

        Raises:
            VLMError: the model gave something else than a reply for each question.
        """
        replies = [*(self._vlm.ask(questions) or ())]
        good = [one for one in replies if isinstance(one, Reply) and isinstance(one.text, str)]
        if not len(good) == len(replies) == len(questions):
            raise VLMError(
                f"The model {self.name!r} gave {len(replies)} answers to {len(questions)} "
                f"questions, {len(good)} of them replies with a text; give one to each."
            )
        return [self._read(*pair) for pair in zip(replies, questions, strict=True)]

    def _read(self, reply: Reply, question: Question) -> Reply:
        if reply.error:
            return reply
        try:
            text = read(reply.text, question).text
            shares = reply.probabilities, *reply.fields.values()
            if not all(fits(one, question) for one in shares):
                raise UnusableError("its probabilities are none")
        except UnusableError as error:
            return replace(reply, error=f"The model {self.name} gave no usable answer: {error}.")
        return replace(reply, text=text)

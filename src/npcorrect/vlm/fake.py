"""A model without a model: answers what it was told to, in order. For tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from npcorrect.vlm.base import Question, Reply, Usage

Answer = str | Reply | Exception | Callable[[Question], "str | Reply"]
"""A text, a whole reply, an error to raise, or a function of the question."""


class FakeVLM:
    """Gives the queued answers in turn and remembers what was asked.

    Claims are asked of it singly unless ``together`` is set. The last answer is given for ever when
    ``repeat`` is set; otherwise running out of answers is an error of the test, and raised as one.
    A text is a reply that took one call and no tokens.
    """

    remote = False

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        name: str = "fake",
        repeat: bool = False,
        together: bool = False,
    ) -> None:
        self.name, self.together = name, together
        self.connected = 0
        self.asked: list[Question] = []
        self._queue, self._repeat = list(answers), repeat

    def connect(self) -> None:
        """Do nothing but count the calls, in ``connected``."""
        self.connected += 1

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """The next queued answer for each question.

        Raises:
            AssertionError: the queue is empty.
            Exception: the one that is queued as an answer.
        """
        return [self._answer(question) for question in questions]

    def _answer(self, question: Question) -> Reply:
        self.asked.append(question)
        if not self._queue:
            raise AssertionError(f"the fake has no answer left for: {question.messages[-1].text}")
        answer = self._queue[0] if self._repeat and len(self._queue) == 1 else self._queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(question)
        return (
            Reply(answer, usage=Usage(calls=1), model=self.name)
            if isinstance(answer, str)
            else answer
        )

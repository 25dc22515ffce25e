"""What questions cost, and a limit that is never passed knowingly."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

from npcorrect.errors import BudgetError, SettingsError
from npcorrect.vlm.base import Question, Usage

Unit = Literal["money", "calls", "tokens"]
_PIXELS_A_TOKEN = 196
"""A token for each patch of 14 x 14 pixels, the finest that common models make."""
_LONGEST = 30
"""Characters of a budget."""
_BUDGET = re.compile(r"(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>calls?|tokens?)?")


@dataclass(frozen=True)
class Price:
    """Money for a million tokens read and a million written."""

    input: float
    output: float

    def of(self, usage: Usage) -> float:
        """What a reply cost."""
        return (usage.input_tokens * self.input + usage.output_tokens * self.output) / 1e6


class Budget:
    """A limit that all models of a run share. Safe to use from several threads."""

    def __init__(self, limit: float, unit: Unit = "money") -> None:
        self.limit, self.unit = limit, unit
        self._spent = self._held = 0.0
        self._lock = Lock()

    @classmethod
    def parse(cls, text: str) -> Budget:
        """``"0.50"`` is money, ``"200 calls"`` and ``"50000 tokens"`` are what they say.

        Raises:
            SettingsError: it is none of these.
        """
        match = _BUDGET.fullmatch(text.strip()) if len(text) <= _LONGEST else None
        if not match:
            raise SettingsError(
                f"The budget {text[:_LONGEST]!r} is not understood; give money (0.50), "
                "'200 calls' or '50000 tokens'."
            )
        unit = (match["unit"] or "money").rstrip("s") + ("" if match["unit"] is None else "s")
        return cls(float(match["limit"]), unit)  # type: ignore[arg-type]

    @property
    def spent(self) -> float:
        """What was spent so far, in the budget's unit."""
        return self._spent

    def hold(self, worst: Usage) -> bool:
        """Set aside what a request may cost at worst.

        False where that has to wait until others, for whom something is set aside, have settled.

        Raises:
            BudgetError: even then it might pass the limit.
        """
        amount = self._amount(worst)
        with self._lock:
            if self._spent + amount > self.limit:
                raise BudgetError(
                    f"Of the budget of {self.limit:g} {self.unit}, {self._spent:g} are spent, and "
                    "the next question might pass it; raise --budget to go on."
                )
            room = self._spent + self._held + amount <= self.limit
            self._held += amount if room else 0
            return room

    def settle(self, worst: Usage, real: Usage) -> None:
        """Replace what was set aside by what it really cost."""
        with self._lock:
            self._held -= self._amount(worst)
            self._spent += self._amount(real)

    def _amount(self, usage: Usage) -> float:
        if self.unit == "calls":
            return usage.calls
        if self.unit == "tokens":
            return usage.input_tokens + usage.output_tokens
        return usage.money or 0.0


class Till:
    """Prices the requests to one model and asks the budget before each."""

    def __init__(self, price: Price | None = None, budget: Budget | None = None) -> None:
        self._price, self._budget = price, budget
        self._surprise = 1.0

    def hold(self, question: Question) -> Usage | None:
        """Set aside the worst that a question can cost in one request.

        None where that has to wait for others, see :meth:`Budget.hold`. The estimate of tokens
        grows by the worst factor by which a reply surpassed it.

        Raises:
            BudgetError: the budget does not allow it.
        """
        tokens = int(_tokens(question) * self._surprise)
        worst = self.priced(Usage(1, tokens, question.max_tokens))
        return None if self._budget and not self._budget.hold(worst) else worst

    def settle(
        self, question: Question, worst: Usage, real: Usage, *, counted: bool = True
    ) -> Usage:
        """Enter what the request really took, and give it back with its price.

        Where the server ``counted`` nothing, the budget is charged with the worst.
        """
        self._surprise = max(self._surprise, real.input_tokens / _tokens(question))
        real = self.priced(real)
        if self._budget:
            self._budget.settle(worst, real if counted else worst)
        return real

    def priced(self, usage: Usage) -> Usage:
        """The usage with its price, where there is one."""
        return replace(usage, money=self._price.of(usage)) if self._price else usage


def _tokens(question: Question) -> float:
    """The tokens that a question is read as, by a generous estimate."""
    tokens = 0.0
    for message in question.messages:
        tokens += 16 + len(message.text.encode()) / 2
        tokens += sum(100 + i.width * i.height / _PIXELS_A_TOKEN for i in message.images)
    return tokens

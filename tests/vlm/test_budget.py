"""Prices, budgets and who pays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import sleep

import pytest

from npcorrect.errors import BudgetError, SettingsError
from npcorrect.records import Cost
from npcorrect.vlm.base import Message, Question, Usage
from npcorrect.vlm.budget import Budget, Price, Till
from npcorrect.vlm.usage import Account, accounting, charge

QUESTION = Question((Message("user", "Is it red?" * 10),), max_tokens=100)


def test_a_price_is_for_a_million_tokens() -> None:
    assert Price(2, 8).of(Usage(1, 500_000, 250_000)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "limit", "unit"),
    [("0.50", 0.5, "money"), ("200 calls", 200, "calls"), ("1 call", 1, "calls"),
     ("50000tokens", 50000, "tokens")],
)  # fmt: skip
def test_budgets_are_money_calls_or_tokens(text: str, limit: float, unit: str) -> None:
    budget = Budget.parse(text)
    assert (budget.limit, budget.unit) == (limit, unit)


@pytest.mark.parametrize("text", ["", "-1", "much", "5 euros", "1e3", "calls"])
def test_anything_else_is_no_budget(text: str) -> None:
    with pytest.raises(SettingsError, match="not understood"):
        Budget.parse(text)


def test_a_limit_is_not_passed_by_many_threads_at_once() -> None:
    budget = Budget.parse("25 calls")
    till = Till(budget=budget)

    def ask(_: int) -> bool:
        try:
            while (worst := till.hold(QUESTION)) is None:
                sleep(0.0005)
        except BudgetError:
            return False
        sleep(0.001)
        till.settle(QUESTION, worst, Usage(calls=1))
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(200))) == 25
    assert budget.spent == 25


def test_money_is_held_for_the_worst_case_and_settled_by_the_real_one() -> None:
    till = Till(Price(0, 10_000), budget := Budget(2.5))
    first, second = till.hold(QUESTION), till.hold(QUESTION)
    assert first
    assert second
    assert first.money == pytest.approx(1.0)
    assert till.hold(QUESTION) is None
    assert till.settle(QUESTION, first, Usage(1, 10, 20)).money == pytest.approx(0.2)
    assert till.hold(QUESTION)
    till.settle(QUESTION, second, Usage(1, 10, 140))
    assert budget.spent == pytest.approx(1.6)
    with pytest.raises(BudgetError, match=r"Of the budget of 2\.5 money, 1\.6 are spent"):
        till.hold(QUESTION)


def test_estimates_learn_from_replies_that_read_more_than_expected() -> None:
    till = Till()
    worst, real = till.hold(QUESTION), 5000
    assert worst
    for _ in range(3):
        till.settle(QUESTION, worst, Usage(1, real, 1))
    assert (again := till.hold(QUESTION))
    assert worst.input_tokens < again.input_tokens == pytest.approx(real, rel=0.1)


def test_a_question_is_charged_to_the_account_around_it() -> None:
    charge(Usage(calls=7))
    with accounting() as outer:
        charge(Usage(calls=1))
        with accounting() as inner:
            charge(Usage(calls=2, money=0.5))
    assert outer.usage == Usage(calls=1)
    assert inner.usage == Usage(calls=2, money=0.5)


def test_a_role_that_asks_no_model_is_a_reading_and_a_failing_one_still_pays() -> None:
    account = Account()
    assert account.role(lambda: 5) == 5
    with pytest.raises(ValueError, match="no"):
        account.role(_failing)
    assert account.usage == Usage(calls=3, readings=1)


def _failing() -> None:
    charge(Usage(calls=3))
    raise ValueError("no")


def test_unknown_prices_add_nothing_and_known_ones_add_up() -> None:
    assert (Usage() + Usage()).money is None
    assert (Usage(money=1) + Usage() + Usage(money=2)).money == 3
    total = Cost(usage=Usage(money=1, retries=1)) + Cost(usage=Usage(retries=2, readings=1))
    assert total == Cost(usage=Usage(money=1, retries=3, readings=1))

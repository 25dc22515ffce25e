"""Every picture says in what its negative acted; one that never acted is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from npcorrect.diffusion.attention import Within
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.guidance import moved
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.receipt import Tally
from npcorrect.diffusion.rules import RULES, Rule
from npcorrect.errors import ModelError, SettingsError
from npcorrect.records import Generation, Receipt, Request
from tests.diffusion.conftest import STEPS
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT

Models = Callable[[str], PipelineModel]
ROWS = [(name, rule) for name, family in FAMILIES.items() for rule in family.rules]


def drawn_with(
    model: PipelineModel, rule: str, negative: int | str, text: str = NEGATIVE
) -> Generation:
    asked = Request(PROMPT, seed=3, rule=rule, negative=negative)
    return draw_one(model, resolved(model, asked, text))


@pytest.mark.parametrize(("family", "rule"), ROWS)
def test_every_rule_of_every_family_says_in_what_the_negative_acted(
    models: Models, family: str, rule: str
) -> None:
    model = models(family)
    for negative, start, stop in (("1..3", 1, 3), ("0..2", RULES[rule].delay, 2)):
        receipt = drawn_with(model, rule, negative).receipt
        assert receipt is not None
        repeated = family == "sd15" and start == 0
        assert (receipt.start, receipt.stop) == (start, stop)
        assert receipt.evaluations == stop - start + repeated
        assert receipt.moved is not None
        assert 1e-6 < receipt.moved < 100


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_without_a_negative_has_no_receipt(models: Models, family: str) -> None:
    model = models(family)
    assert draw_one(model, resolved(model, Request(PROMPT, seed=3))).receipt is None


class _Inert(Rule):
    """A rule by which no negative ever acts."""

    def plain(self, predictions: Mapping[Any, Tensor]) -> Tensor:
        return next(value for name, value in predictions.items() if name != "positive")

    def second(self, predictions: Mapping[Any, Tensor], acting: bool) -> Tensor:
        return self.plain(predictions)


def _within_unmoved(within: Any) -> Any:
    """A rule within attention by which no site's features are ever moved."""

    @contextmanager
    def inert(self: Any, *args: Any) -> Iterator[Within]:
        with within(self, *args) as made:
            yield Within(made.arguments, [])

    return inert


@pytest.mark.parametrize(("family", "rule"), ROWS)
def test_a_negative_that_never_acts_is_an_error_before_the_picture_is_finished(
    models: Models, family: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models(family)
    drawing = resolved(model, Request(PROMPT, seed=3, rule=rule, negative="0..2"), NEGATIVE)
    inert = type("Inert", (RULES[rule],), {
        name: getattr(_Inert, name) for name in ("plain", "second")
    })  # fmt: skip
    monkeypatch.setitem(RULES, rule, inert)
    if spec := FAMILIES[family].attention(rule):
        monkeypatch.setattr(type(spec), "within", _within_unmoved(type(spec).within))
    seen: list[int] = []

    def no_picture(*_: Any, **__: Any) -> None:
        raise AssertionError("the picture was decoded")

    monkeypatch.setattr(model.pipeline.vae, "decode", no_picture)
    step = model.pipeline.scheduler.step

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return step(*args, **kwargs)

    monkeypatch.setattr(model.pipeline.scheduler, "step", counted)
    with pytest.raises(ModelError, match="acted in no step"):
        draw_one(model, drawing)
    assert len(seen) < STEPS


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([row for row in ROWS if row[0] in ("flux-dev", "sd3")]),
    st.integers(0, 6),
    st.integers(1, 6),
)
def test_the_receipt_is_the_interval(
    models: Models, row: tuple[str, str], start: int, stop: int
) -> None:
    family, rule = row
    model = models(family)
    asked = Request(PROMPT, seed=3, steps=6, rule=rule, negative=f"{start}..{stop}", looks=0)
    first = max(start, RULES[rule].delay)
    if first >= stop:
        with pytest.raises(SettingsError):
            model.plan(asked)
        return
    receipt = draw_one(model, resolved(model, asked, NEGATIVE)).receipt
    assert receipt is not None
    assert (receipt.evaluations, receipt.start, receipt.stop) == (stop - first, first, stop)


def test_a_batch_has_a_receipt_for_each_picture(models: Models) -> None:
    for rule in FAMILIES["sd3"].rules:
        model = models("sd3")
        asked = Request(PROMPT, seed=3, rule=rule, negative="0..2")
        texts = (NEGATIVE, f"{OTHER} on a table")
        drawings = [resolved(model, asked, text) for text in texts]
        together = [drawn.receipt for drawn in model.draw(drawings)]
        for receipt, drawing in zip(together, drawings, strict=True):
            alone = draw_one(model, drawing).receipt
            assert receipt is not None
            assert alone is not None
            assert receipt.evaluations == alone.evaluations
            assert receipt.moved == pytest.approx(alone.moved, rel=1e-2)
        assert together[0] != together[1]


def test_the_prompt_as_its_own_negative_acts_and_moves_nothing(models: Models) -> None:
    receipt = drawn_with(models("flux-dev"), "paper", "0..2", PROMPT).receipt
    assert receipt is not None
    assert receipt.evaluations == 2
    assert receipt.moved == pytest.approx(0, abs=1e-5)


def test_moved_is_relative_and_row_by_row() -> None:
    plain = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]], [[0.0, 0.0]]])
    changed = plain + torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]], [[1.0, 0.0]]])
    assert moved(changed, plain).tolist() == [pytest.approx(0.2), 1.0, float("inf")]


def test_a_tally_tells_withdrawn_negatives_from_those_that_never_acted() -> None:
    tally = Tally(3)
    tally.add(4, [0, 2], torch.tensor([0.5, float("nan")]))
    tally.add(6, [0], torch.tensor([1.5]))
    assert tally.receipts() == [Receipt(2, 4, 7, 1.0), Receipt(), Receipt(1, 4, 5, None)]
    with pytest.raises(ModelError):
        tally.check()
    tally.withdraw([1])
    tally.check()

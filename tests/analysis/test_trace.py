"""Capture under the package's own drawing: steps, branches, batches, failures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from npcorrect.analysis.layouts import Sides
from npcorrect.analysis.trace import Attention, grid, reduce, trace
from npcorrect.diffusion.base import Glance, Watch
from npcorrect.diffusion.current_call import Evaluation, announce, announced
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import ModelError
from npcorrect.mini.family import FAMILY
from npcorrect.mini.language import MAX_TOKENS
from npcorrect.records import Drawing, Request
from tests.diffusion.shallow import shallow

STEPS = 4
PROMPT, NEGATIVE = "three red apples", "four apples"


@pytest.fixture(scope="module")
def model() -> PipelineModel:
    return PipelineModel("tiny", shallow(), replace(FAMILY, after="empty"))


def drawings(
    model: PipelineModel, *negatives: str | None, rule: str = "extra", first: int = 2
) -> list[Drawing]:
    request = Request(PROMPT, steps=STEPS, rule=rule, negative=first, looks=0, strength=1.0)
    plan = model.plan(request)
    return [plan.drawing(0, negative) for negative in negatives]


def test_steps_count_from_0_and_branches_are_told_apart(model: PipelineModel) -> None:
    with trace(model.pipeline.transformer) as found:
        model.draw(drawings(model, NEGATIVE))
    assert found.branches() == ("positive", "empty", "negative")
    steps = {branch: found.of(0, branch).steps for branch in found.branches()}
    assert steps == {"positive": (0, 1, 2, 3), "empty": (0, 1, 2, 3), "negative": (0, 1)}


def test_attention_among_the_texts_tokens_adds_up_to_one(model: PipelineModel) -> None:
    with trace(model.pipeline.transformer) as traced:
        model.draw(drawings(model, None))
    attention = traced.of()
    totals_SB = attention.among_SBT.sum(dim=-1)
    torch.testing.assert_close(totals_SB, torch.ones(STEPS, len(attention.blocks)))
    assert not torch.allclose(attention.among_SBT, attention.text_SBT)


def test_the_papers_rule_has_the_negative_in_its_window_alone(model: PipelineModel) -> None:
    with trace(model.pipeline.transformer) as found:
        model.draw(drawings(model, NEGATIVE, rule="paper", first=1))
    assert found.branches() == ("positive", "negative", "empty")
    assert found.of(0, "negative").steps == (0,)
    assert found.of(0, "empty").steps == (1, 2, 3)
    with trace(model.pipeline.transformer) as found:
        model.draw(drawings(model, None, rule="paper"))
    assert found.branches() == ("positive", "empty")
    with pytest.raises(KeyError, match="not evaluated"):
        found.of(0, "negative")


def test_in_the_first_step_the_negative_cannot_have_changed_the_picture(
    model: PipelineModel,
) -> None:
    seen = []
    for negative in (None, NEGATIVE):
        with trace(model.pipeline.transformer) as found:
            model.draw(drawings(model, negative))
        seen.append(found.of().text_SBT)
    torch.testing.assert_close(seen[0][0], seen[1][0])
    assert not torch.allclose(seen[0][1], seen[1][1])


def test_a_renewed_negative_belongs_to_its_own_picture(model: PipelineModel) -> None:
    request = Request(
        PROMPT,
        steps=STEPS,
        rule="extra",
        negative=STEPS,
        strength=1.0,
        looks=1,
        rewinds=0,
    )
    plan = model.plan(request)
    both = [plan.drawing(0, text) for text in (NEGATIVE, "one blue banana")]
    (look_step,) = both[0].look_steps
    with trace(model.pipeline.transformer) as found:
        model.draw(both, Watch(look=lambda *_: [Glance(None), Glance("two clocks")]))
    assert found.of(0, "negative").steps == tuple(range(look_step))
    assert found.of(1, "negative").steps == tuple(range(STEPS))


def test_a_batch_equals_single_draws_and_maps_are_each_pictures_own(model: PipelineModel) -> None:
    both = drawings(model, NEGATIVE, "one blue banana")
    terms: list[dict[str, tuple[int, ...]]] = [{"three": (0,)}, {"red": (1,), "all": (0, 1, 2)}]
    with trace(model.pipeline.transformer, terms) as together:
        model.draw(both)
    for number, drawing in enumerate(both):
        with trace(model.pipeline.transformer, [terms[number]]) as alone:
            model.draw([drawing])
        mine, same = together.of(number), alone.of()
        torch.testing.assert_close(mine.text_SBT, same.text_SBT)
        assert mine.terms == tuple(terms[number])
        maps = mine.maps(96, 96)
        torch.testing.assert_close(maps, same.maps(96, 96))
        assert maps.shape == (STEPS, len(terms[number]), 3, 3)
        for term, places in enumerate(terms[number].values()):
            expected_S = mine.text_SBT[..., list(places)].sum(-1).mean(1)
            torch.testing.assert_close(maps[:, term].mean((1, 2)), expected_S)


def test_a_picture_that_is_drawn_again_starts_anew(model: PipelineModel) -> None:
    calls = 0

    def stop(step: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("out of memory")

    terms = [{"three": (0,)}]
    with trace(model.pipeline.transformer, terms) as again:
        with pytest.raises(ModelError, match="Memory ran out"):
            model.draw(drawings(model, NEGATIVE), Watch(stop))
        model.draw(drawings(model, "two blue bananas"))
    with trace(model.pipeline.transformer, terms) as alone:
        model.draw(drawings(model, "two blue bananas"))
    for branch in ("positive", "negative"):
        mine, same = again.of(0, branch), alone.of(0, branch)
        torch.testing.assert_close(mine.text_SBT, same.text_SBT)
        assert mine.steps == same.steps
    torch.testing.assert_close(again.of().maps(96, 96), alone.of().maps(96, 96))


def test_what_is_kept_does_not_grow_with_image_tokens_or_heads(model: PipelineModel) -> None:
    with trace(model.pipeline.transformer, [{"three": (0,)}]) as found:
        model.draw(drawings(model, None))
    attention = found.of()
    blocks = len(attention.blocks)
    assert attention.text_SBT.shape == (STEPS, blocks, MAX_TOKENS)
    assert attention.rest_SB.shape == (STEPS, blocks)
    assert {tokens: tuple(maps.shape) for tokens, maps in attention.maps_SWI.items()} == {
        9: (STEPS, 1, 9)
    }
    kept = _tensors(list(vars(found._records[0, "positive"]).values()))
    floats = STEPS * blocks * (2 * MAX_TOKENS + 1) + STEPS * 9
    assert sum(tensor.untyped_storage().nbytes() for tensor in kept) <= 4 * floats


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    return [t for v in inner for t in _tensors(v)] if isinstance(value, dict | list) else []


def test_nothing_is_left_where_a_draw_fails(model: PipelineModel) -> None:
    denoiser = model.pipeline.transformer
    forward = denoiser.forward

    def stop(step: int, total: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"), trace(denoiser):
        model.draw(drawings(model, None), Watch(stop))
    assert denoiser.forward == forward
    assert not denoiser._diffusers_hook.hooks
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser.modules())
    assert announced() is None


class _Silent:
    """An attention processor that does not go through torch's function."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *_: Any) -> Tensor:
        return hidden_states


class _Twice:
    """An attention processor that attends twice, as with an image adapter."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._inner(*args, **kwargs)
        return self._inner(*args, **kwargs)


def test_attention_that_cannot_be_seen_is_an_error(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = model.pipeline.transformer.single_transformer_blocks[0].attn
    asked = drawings(model, None)
    monkeypatch.setattr(attention, "processor", _Silent())
    with (
        trace(model.pipeline.transformer),
        pytest.raises(ModelError, match=r"single_transformer_blocks\.0\.attn"),
    ):
        model.draw(asked)


def test_attention_that_is_ambiguous_is_an_error(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = model.pipeline.transformer.single_transformer_blocks[0].attn
    monkeypatch.setattr(attention, "processor", _Twice(attention.processor))
    with trace(model.pipeline.transformer), pytest.raises(ModelError, match="more than once"):
        model.draw(drawings(model, None))


def test_an_announcement_holds_for_its_block() -> None:
    outer, inner = Evaluation(0, ((0, "positive"),)), Evaluation(1, ((0, "negative"),))
    with announce(outer):
        with announce(inner):
            assert announced() == inner
        assert announced() == outer
    assert announced() is None


@settings(max_examples=40)
@given(st.data())
def test_reduction_equals_the_plain_softmax(data: st.DataObject) -> None:
    size = st.integers(1, 3)
    rows, heads, text, image = (data.draw(size, label=n) for n in ("B", "H", "T", "I"))
    channels, terms = 4, data.draw(st.integers(0, 2), label="W")
    text_first = data.draw(st.booleans(), label="text first")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), label="seed"))
    total = text + image
    query = torch.randn(rows, heads, total, channels, generator=generator)
    key = torch.randn(rows, heads, total, channels, generator=generator)
    mask = None
    if data.draw(st.booleans(), label="masked"):
        mask = torch.rand(rows, 1, 1, total, generator=generator) > 0.4
        mask[..., 0] = True
    sides = Sides(slice(text, total), slice(0, text))
    if not text_first:
        sides = Sides(slice(0, image), slice(image, total))
    wanted = (torch.rand(rows, text, terms, generator=generator) > 0.5).float()
    reduced = reduce(query, key, sides, wanted, mask)
    logits = query @ key.transpose(2, 3) / channels**0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    full_BIT = logits.softmax(-1).mean(1)[:, sides.image, sides.text]
    torch.testing.assert_close(reduced.text_BT, full_BIT.mean(1))
    torch.testing.assert_close(reduced.maps_BWI, torch.einsum("bit,btw->bwi", full_BIT, wanted))
    torch.testing.assert_close(reduced.text_BT.sum(1) + reduced.rest_B, torch.ones(rows))
    alone = logits[:, :, sides.image, sides.text].softmax(-1).nan_to_num(0.0)
    torch.testing.assert_close(reduced.among_BT, alone.mean((1, 2)))


def test_maps_of_several_resolutions_come_together_at_the_finest() -> None:
    coarse = torch.full((1, 1, 2), 0.5)
    fine = torch.arange(8.0).reshape(1, 1, 8)
    attention = Attention(
        (0,), ("a", "b", "c"), ("word",), torch.zeros(1, 3, 1), torch.ones(1, 3),
        torch.ones(1, 3, 1), {2: coarse, 8: fine}, {2: 1, 8: 2},
    )  # fmt: skip
    expected = (0.5 + 2 * torch.arange(8.0).reshape(2, 4)) / 3
    torch.testing.assert_close(attention.maps(32, 64)[0, 0], expected)


def test_a_grid_has_the_pictures_proportions() -> None:
    assert grid(9, 96, 96) == (3, 3)
    assert grid(24, 64, 96) == (4, 6)
    with pytest.raises(ModelError, match="no grid"):
        grid(7, 96, 96)

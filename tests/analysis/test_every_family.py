"""Capture on a tiny model of every family: against a full computation, and against the model.

Where text and image lie among the tokens, and which rows are the prompt's, is found here by
changing texts and looking for what moves, which owes nothing to the tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from npcorrect.analysis.layouts import layout_of
from npcorrect.analysis.spans import places_of, prompt_tokens
from npcorrect.analysis.trace import trace
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import ModelError
from npcorrect.records import Generation, Request
from tests.diffusion.conftest import tiny_model
from tests.diffusion.drawing import resolved
from tests.diffusion.tiny import NEGATIVE, OTHER, PROMPT, SIZE

IMAGE_TOKENS = (SIZE // 16) ** 2
"""Of the joint families."""
TEXTS, LATENTS = {"encoder_hidden_states", "cap_feats"}, {"hidden_states", "sample", "x"}
ANOTHER = "one small green star"
TERMS = {"two": (0, 2), "one": (1,)}


def draw(
    model: PipelineModel, prompts: Sequence[str] = (PROMPT, OTHER), rule: Any = None
) -> list[Generation]:
    """Pictures with a negative, by the family's own rule unless another one is asked for."""
    request = Request(prompts[0], seed=3, looks=0, reseed=False, rule=rule, negative=2)
    asked = [replace(request, prompt=prompt) for prompt in prompts]
    return model.draw([resolved(model, each, NEGATIVE) for each in asked])


def all_steps(model: PipelineModel) -> tuple[int, ...]:
    """Those of the last draw; a scheduler may take more than it was asked for."""
    return tuple(range(len(model.pipeline.scheduler.timesteps)))


def pixels(drawn: Sequence[Generation]) -> Any:
    return np.stack([np.asarray(generation.image) for generation in drawn])


class Attentions:
    """Every attention of the blocks, whole: queries and keys by call of the denoiser, and block."""

    def __init__(self, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.seen: list[dict[str, dict[str, Any]]] = []
        self._inside: str | None = None
        self.denoiser = module
        original, attend = module.forward, functional.scaled_dot_product_attention

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(type(module).forward).bind(module, *args, **kwargs)
            self.calls.append({k: v for k, v in bound.arguments.items() if k != "self"})
            self.seen.append({})
            return original(*args, **kwargs)

        def overheard(query: Tensor, key: Tensor, value: Tensor, **rest: Any) -> Any:
            if self._inside:
                self.seen[-1][self._inside] = {"query": query, "key": key, **rest}
            return attend(query, key, value, **rest)

        monkeypatch.setattr(module, "forward", forward)
        monkeypatch.setattr(functional, "scaled_dot_product_attention", overheard)
        for name, block in layout_of(module).modules(module).items():
            monkeypatch.setattr(block, "forward", self._within(name, block.forward))

    def _within(self, name: str, forward: Any) -> Any:
        def within(*args: Any, **kwargs: Any) -> Any:
            self._inside = name
            try:
                return forward(*args, **kwargs)
            finally:
                self._inside = None

        return within


def probabilities(query: Tensor, key: Tensor, **rest: Any) -> Tensor:
    """The whole softmax in double precision, mean over heads, ``(B, Q, K)``."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    logits = query.double() @ key.double().transpose(2, 3)
    logits = logits * (rest.get("scale") or query.shape[-1] ** -0.5)
    mask = rest.get("attn_mask")
    if mask is not None:
        logits = (
            logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        )
    mean_BQK: Tensor = logits.softmax(dim=-1).mean(dim=1)
    return mean_BQK


def moved(whole: Attentions, call: int, row: int, changed: dict[str, Any]) -> Tensor:
    """The keys of a row that move in the first block when the denoiser's arguments change."""
    first = next(iter(whole.seen[call]))
    whole.denoiser(**changed)
    keys = [seen[first]["key"][row] for seen in (whole.seen[call], whole.seen.pop())]
    distance_K: Tensor = (keys[0] - keys[1]).norm(dim=-1).sum(dim=0)
    return distance_K.nonzero().flatten()


def with_noise(call: dict[str, Any], names: set[str], row: int) -> dict[str, Any]:
    """The call with one row of one argument changed."""
    (name,) = names & call.keys()
    rows = [value.clone() for value in call[name]]
    rows[row] += torch.randn(rows[row].shape, generator=torch.Generator().manual_seed(1))
    return call | {name: torch.stack(rows) if isinstance(call[name], Tensor) else rows}


def text_length(call: dict[str, Any], row: int) -> int:
    """Tokens that the pipeline gives; what the denoiser adds to them moves, but is no text."""
    (name,) = TEXTS & call.keys()
    return len(call[name][row])


def positive_row(first: Attentions, other: Attentions) -> tuple[int, int]:
    """The first call and row whose text is another one in a draw with another second prompt."""
    for call, (mine, theirs) in enumerate(zip(first.calls, other.calls, strict=True)):
        (name,) = TEXTS & mine.keys()
        for row, (text, changed) in enumerate(zip(mine[name], theirs[name], strict=True)):
            if not torch.equal(text, changed):
                return call, row
    raise AssertionError("no row depends on the second prompt")


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> PipelineModel:
    return tiny_model(request.param)


def test_pictures_are_the_same_and_nothing_is_left(model: PipelineModel) -> None:
    module = model.stock.denoiser
    plain = pixels(draw(model))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    forward = module.forward
    with trace(module) as found:
        again = pixels(draw(model))
    np.testing.assert_array_equal(again, plain)
    assert all(found.of(picture).steps == all_steps(model) for picture in (0, 1))
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    assert module.forward == forward
    np.testing.assert_array_equal(pixels(draw(model)), plain)


@torch.inference_mode()
def test_capture_equals_the_full_computation(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = model.stock.denoiser
    monkeypatch.setattr("npcorrect.analysis.trace.CHUNK", 1000)
    draws = []
    for second in (ANOTHER, OTHER):
        with monkeypatch.context() as patched:
            draws.append(Attentions(module, patched))
            with trace(module, [TERMS] * 2) as found:
                draw(model, (PROMPT, second))
    whole = draws[1]
    call, row = positive_row(whole, draws[0])
    with monkeypatch.context() as patched:
        again = Attentions(module, patched)
        again.seen = list(whole.seen)
        text = moved(again, call, row, with_noise(whole.calls[call], TEXTS, row))
        image = moved(again, call, row, with_noise(whole.calls[call], LATENTS, row))
    text, image = text[: text_length(whole.calls[call], row)], image[:IMAGE_TOKENS]
    attention = found.of(1)
    assert attention.blocks == tuple(whole.seen[call])
    for place, block in enumerate(whole.seen[call].values()):
        full_QK = probabilities(**block)[row]
        seen_IK = full_QK[image] if len(image) else full_QK
        got_T = attention.text_SBT[0, place]
        assert_close(got_T, seen_IK[:, text].mean(dim=0).float())
        assert_close(got_T.sum() + attention.rest_SB[0, place], torch.tensor(1.0))
    (maps_SWI,) = attention.maps_SWI.values()
    assert maps_SWI.shape[1:] == (2, len(image) or len(full_QK))
    one_S = attention.text_SBT[..., 1].mean(dim=1)
    assert_close(maps_SWI[:, 1].mean(dim=-1), one_S)


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


@torch.inference_mode()
def test_a_word_is_where_the_text_changes_with_it(
    model: PipelineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ("three red circles", "three blue circles")
    whole = []
    for second in prompts:
        with monkeypatch.context() as patched:
            whole.append(Attentions(model.stock.denoiser, patched))
            draw(model, (PROMPT, second))
    call, row = positive_row(*whole)
    (name,) = TEXTS & whole[0].calls[call].keys()
    texts = [drawn.calls[call][name][row] for drawn in whole]
    change_T = (texts[0] - texts[1]).flatten(1).norm(dim=-1)
    places = places_of(prompt_tokens(model, prompts[0]), prompts[0], "red")
    first = int(change_T.nonzero()[0])
    assert set(places) <= {first, *change_T.topk(len(places)).indices.tolist()}


@pytest.mark.parametrize(
    ("name", "rule"), [(name, rule) for name, row in FAMILIES.items() for rule in row.rules]
)
def test_branches_are_those_of_the_rule(name: str, rule: str) -> None:
    model = tiny_model(name)
    with trace(model.stock.denoiser) as found:
        draw(model, rule=rule)
    steps = {branch: found.of(1, branch).steps for branch in found.branches(1)}
    always = all_steps(model)
    first = 2 if name == "sd15" else 1  # PNDM's first step takes two calls.
    window = always[: first + 1]
    beside = rule in ("extra", "turns", "dynamic")
    empty = {"empty": always} if beside or model.family.after == "empty" else {}
    if rule == "turns":
        window, empty = (first,), {"empty": always[:first] + always[first + 1 :]}
    elif rule == "paper" and empty:
        empty = {"empty": always[first + 1 :]}
    if rule == "vsf":  # The negative acts within the prompt's branch.
        assert steps == {"positive": always}
        return
    assert steps == {"positive": always, "negative": window} | empty
    attention = found.of(1, "negative")
    np.testing.assert_allclose(attention.text_SBT.sum(-1) + attention.rest_SB, 1, rtol=1e-5)


def test_an_unknown_denoiser_says_so() -> None:
    with pytest.raises(ModelError, match="Linear cannot be captured"), trace(nn.Linear(2, 2)):
        pass


def test_a_call_without_a_branch_says_so() -> None:
    pipeline = tiny_model("flux-dev").pipeline
    with trace(pipeline.transformer), pytest.raises(ModelError, match="for which branch"):
        pipeline(PROMPT, height=SIZE, width=SIZE, num_inference_steps=1)

"""Capture on a tiny pipeline of every family: against a full computation, and against the model.

Where text and image lie among the tokens is found here by changing text and looking for the keys
that move, which owes nothing to the table in ``layouts``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.diffusion.tiny import BUILDERS, NEGATIVE, OTHER, PROMPT, SIZE, build, denoiser
from torch import Tensor, nn
from torch.nn import functional

from npcorrect.analysis.layouts import layout_of
from npcorrect.analysis.spans import places_of, prompt_tokens
from npcorrect.analysis.stock import stock_branches
from npcorrect.analysis.trace import Trace, trace
from npcorrect.errors import ModelError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
FAMILIES = sorted(BUILDERS)
UNGUIDED = {"flux2-klein"}
STEPS, PICTURES = 2, 2
IMAGE_TOKENS = (SIZE // 16) ** 2
"""Of the joint families."""
TEXTS, LATENTS = {"encoder_hidden_states", "cap_feats"}, {"hidden_states", "sample", "x"}
ANOTHER = "one small green star"


def draw(family: str, pipeline: Any, prompts: Sequence[str] = (PROMPT, OTHER)) -> NDArray[Any]:
    """Pictures of a stock pipeline, guided where the family can be."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    scale = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
    asked: dict[str, Any] = {scale: 4.0, "negative_prompt": [NEGATIVE] * len(prompts)}
    if "negative_prompt" not in parameters:
        del asked["negative_prompt"]
    if "use_resolution_binning" in parameters:
        asked["use_resolution_binning"] = False
    images: NDArray[Any] = pipeline(
        prompt=list(prompts),
        height=SIZE,
        width=SIZE,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        return_dict=False,
        **asked,
    )[0]
    return images


@contextmanager
def traced(
    family: str, pipeline: Any, terms: Sequence[Mapping[str, Sequence[int]]] = ()
) -> Iterator[Trace]:
    module = denoiser(pipeline)
    guided = family not in UNGUIDED
    with trace(module, terms) as found, stock_branches(module, PICTURES, guided):
        yield found


class Attentions:
    """Every attention of the blocks, whole: queries and keys by call of the denoiser, and block."""

    def __init__(self, module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.seen: list[dict[str, dict[str, Any]]] = []
        self._inside: str | None = None
        self.denoiser = module
        original, attend = module.forward, functional.scaled_dot_product_attention

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


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pipeline(family: str) -> Any:
    return build(family)


def test_pictures_are_the_same_and_nothing_is_left(family: str, pipeline: Any) -> None:
    module = denoiser(pipeline)
    plain = draw(family, pipeline)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    with traced(family, pipeline) as found:
        again = draw(family, pipeline)
    np.testing.assert_array_equal(again, plain)
    assert found.branches(1)
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert hooks == [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    assert not module._diffusers_hook.hooks
    np.testing.assert_array_equal(draw(family, pipeline), plain)


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-4)


@torch.inference_mode()
def test_capture_equals_the_full_computation(
    family: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = denoiser(pipeline)
    monkeypatch.setattr("npcorrect.analysis.trace.CHUNK", 1000)
    draws = []
    for second in (ANOTHER, OTHER):
        with monkeypatch.context() as patched:
            draws.append(Attentions(module, patched))
            with traced(family, pipeline, [{"two": (0, 2), "one": (1,)}] * PICTURES) as found:
                draw(family, pipeline, (PROMPT, second))
    whole = draws[1]
    call, row = positive_row(whole, draws[0])
    with monkeypatch.context() as patched:
        again = Attentions(module, patched)
        again.seen = list(whole.seen)
        text = moved(again, call, row, with_noise(whole.calls[call], TEXTS, row))
        image = moved(again, call, row, with_noise(whole.calls[call], LATENTS, row))
    text, image = text[: text_length(whole.calls[call], row)], image[:IMAGE_TOKENS]
    attention = found.of(1)
    assert attention.steps[0] == 0
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


@torch.inference_mode()
def test_a_word_is_where_the_text_changes_with_it(
    family: str, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ("three red circles", "three blue circles")
    whole = []
    for second in prompts:
        with monkeypatch.context() as patched:
            whole.append(Attentions(denoiser(pipeline), patched))
            draw(family, pipeline, (PROMPT, second))
    call, row = positive_row(*whole)
    (name,) = TEXTS & whole[0].calls[call].keys()
    texts = [drawn.calls[call][name][row] for drawn in whole]
    change_T = (texts[0] - texts[1]).norm(dim=-1)
    places = places_of(prompt_tokens(pipeline, prompts[0]), prompts[0], "red")
    first = int(change_T.nonzero()[0])
    assert set(places) <= {first, *change_T.topk(len(places)).indices.tolist()}


def test_an_unknown_denoiser_says_so() -> None:
    with pytest.raises(ModelError, match="Linear cannot be captured"), trace(nn.Linear(2, 2)):
        pass


def test_a_call_without_a_branch_says_so(pipeline: Any, family: str) -> None:
    with trace(denoiser(pipeline)), pytest.raises(ModelError, match="for which branch"):
        draw(family, pipeline)


def test_a_draw_that_does_not_fit_the_order_of_branches_says_so(pipeline: Any, family: str) -> None:
    module = denoiser(pipeline)
    with trace(module), stock_branches(module, pictures=3), pytest.raises(ModelError, match="rows"):
        draw(family, pipeline)

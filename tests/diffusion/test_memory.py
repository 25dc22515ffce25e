"""Batches that do not fit are halved, and one that never will says what helps."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from npcorrect.diffusion.families import FLUX_DEV
from npcorrect.diffusion.memory import out_of_memory
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import ModelError
from npcorrect.records import Request
from tests.diffusion.test_families import pixels
from tests.diffusion.tiny import PROMPT, SIZE, build

NEGATIVES = ("four circles", "two stars", "one cat", "a dog", "five hearts")


@pytest.fixture
def model() -> PipelineModel:
    return PipelineModel("tiny", build("flux-dev"), FLUX_DEV)


def limited(model: PipelineModel, rows: int) -> list[int]:
    """Let the denoiser run out of memory beyond some rows; returns the sizes that were tried."""
    tried: list[int] = []
    forward = model.pipeline.transformer.forward

    def scarce(*args: Any, **kwargs: Any) -> Any:
        size = len(kwargs["hidden_states"])
        tried.append(size)
        if size > rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*args, **kwargs)

    model.pipeline.transformer.forward = scarce
    return tried


def drawings(model: PipelineModel) -> list[Any]:
    plan = model.plan(Request(PROMPT, seed=3, steps=2, size=SIZE))
    return [plan.drawing(0, negative) for negative in NEGATIVES]


def test_a_batch_is_halved_until_it_fits_and_stays_so(
    model: PipelineModel, caplog: pytest.LogCaptureFixture
) -> None:
    alone = [model.draw([drawing])[0] for drawing in drawings(model)]
    tried = limited(model, rows=2)
    with caplog.at_level(logging.WARNING):
        drawn = model.draw(drawings(model))
    assert [(d.drawing.negative_prompt, d.evaluations) for d in drawn] == [
        (n, 3) for n in NEGATIVES
    ]
    for one, other in zip(alone, drawn, strict=True):
        assert abs(pixels(one.image) - pixels(other.image)).max() <= 2
    assert tried[0] == 5
    assert max(tried[1:]) == 2
    assert "5 pictures together; drawing 2 at a time" in caplog.text
    tried.clear()
    model.draw(drawings(model))
    assert max(tried) == 2


def test_one_picture_that_does_not_fit_names_the_options(model: PipelineModel) -> None:
    limited(model, rows=0)
    with pytest.raises(ModelError, match=r"one picture.*--size.*--offload model.*--quantize 4bit"):
        model.draw(drawings(model)[:1])


def test_other_errors_are_not_taken_for_it(model: PipelineModel) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not match")

    model.pipeline.transformer.forward = broken
    with pytest.raises(RuntimeError, match="shapes do not match"):
        model.draw(drawings(model))
    assert not out_of_memory(ValueError("out of memory"))
    assert out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert out_of_memory(MemoryError())

"""Tiny models of every family, each built once a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from tests.diffusion.tiny import SIZE, build

STEPS = 3


@cache
def tiny_model(family: str) -> PipelineModel:
    """The family's row around its tiny pipeline, with few steps and a scale that shows."""
    row = FAMILIES[family]
    scale = row.defaults.true_cfg_scale if row.distilled else 3.0
    defaults = replace(
        row.defaults,
        num_inference_steps=STEPS,
        true_cfg_scale=scale,
        sizes=(SIZE,),
        max_sequence_length=min(row.defaults.max_sequence_length, 96),
    )
    return PipelineModel(family, build(family), row, defaults)


@pytest.fixture(scope="session")
def models() -> Callable[[str], PipelineModel]:
    return tiny_model

"""The embedded model behind the program's own protocols."""

from __future__ import annotations

from pathlib import Path

import torch

from npcorrect.diffusion.memory import require_device
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import ModelError
from npcorrect.mini.family import FAMILY
from npcorrect.mini.model import WEIGHTS, load_pipeline


def embedded(
    device: str = "cpu", dtype: str = "float32", weights: Path | None = None
) -> PipelineModel:
    """The trained embedded model.

    Raises:
        ModelError: the device or the dtype is not to be had, or the weights are corrupt.
    """
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in types:
        raise ModelError(f"The dtype {dtype!r} is unknown; use {', '.join(types)}.")
    require_device(device)
    pipeline = load_pipeline(weights or WEIGHTS, types[dtype])
    pipeline.to(device)
    return PipelineModel("mini", pipeline, FAMILY)

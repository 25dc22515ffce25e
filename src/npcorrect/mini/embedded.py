"""The embedded default: the miniature model behind the program's own protocols."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from npcorrect.diffusion.families import FLUX_DEV, Defaults
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import ModelError
from npcorrect.mini.model import MAX_TOKENS, NUM_INFERENCE_STEPS, WEIGHTS, load_pipeline
from npcorrect.mini.scene import IMAGE_SIZE

DEFAULTS = Defaults(
    num_inference_steps=NUM_INFERENCE_STEPS,
    true_cfg_scale=3.5,
    negative_scale=3.0,
    rule="extra",
    window=1.0,
    looks=10,
    reseed=True,
    sizes=(IMAGE_SIZE,),
    max_sequence_length=MAX_TOKENS,
)

FAMILY = replace(
    FLUX_DEV, name="mini", title="the miniature model", defaults=DEFAULTS, arguments={}
)


def embedded(
    device: str = "cpu", dtype: str = "float32", weights: Path | None = None
) -> PipelineModel:
    """The trained miniature model.

    Raises:
        ModelError: the device or the dtype is not to be had, or the weights are corrupt.
    """
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in types:
        raise ModelError(f"The dtype {dtype!r} is unknown; use {', '.join(types)}.")
    pipeline = load_pipeline(weights or WEIGHTS, types[dtype])
    try:
        pipeline.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"The device {device!r} cannot be used ({reason}); try cpu.") from None
    return PipelineModel("mini", pipeline, family=FAMILY)

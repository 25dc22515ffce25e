"""The embedded pipeline with random weights, and with one block of each kind: quick to draw."""

from __future__ import annotations

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel

from npcorrect.mini.model import assemble, build_modules

BLOCKS = 1


def shallow(stir: bool = False) -> FluxPipeline:
    """The same at each call; with ``stir`` its transformer's last layer does not begin at zero."""
    torch.manual_seed(0)
    modules = build_modules()
    transformer = modules["transformer"]
    assert isinstance(transformer, FluxTransformer2DModel)
    if stir:
        torch.nn.init.normal_(transformer.proj_out.weight, std=0.2)
    del transformer.transformer_blocks[BLOCKS:], transformer.single_transformer_blocks[BLOCKS:]
    for module in modules.values():
        module.eval().requires_grad_(False)
    return assemble(modules)

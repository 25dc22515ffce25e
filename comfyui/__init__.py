"""Nodes that draw a prompt, find what went wrong, and correct it with a negative prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls for the nodes of this pack."""
    from .nodes import Extension

    return Extension()

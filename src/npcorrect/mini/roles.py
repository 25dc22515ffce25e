"""The embedded roles: the grammar reads prompts, a small learned network looks at pictures."""

from __future__ import annotations

from pathlib import Path

from npcorrect.mini.checklist import MiniChecklister
from npcorrect.mini.language import REMARKS
from npcorrect.mini.model import WEIGHTS
from npcorrect.mini.parts import load_weights
from npcorrect.mini.proposer import MiniProposer
from npcorrect.mini.verifier import CellReader
from npcorrect.mini.viewer import MiniViewer
from npcorrect.vlm.roles import Roles


def embedded_roles(weights: Path = WEIGHTS) -> Roles:
    """All four roles of the embedded world; its last-resort negatives are its captions' remarks.

    Raises:
        ModelError: the weights are missing or corrupt.
    """
    network = CellReader()
    load_weights(network, weights / "verifier.safetensors")
    viewer = MiniViewer(network.eval().requires_grad_(False))
    return Roles(MiniChecklister(), viewer, viewer, MiniProposer(REMARKS))

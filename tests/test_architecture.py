"""Imports point one way: the core stays free of everything heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "httpx2", "npcorrect.mini")


@pytest.mark.parametrize(
    "module",
    [
        "npcorrect",
        "npcorrect.loop",
        "npcorrect.ranking",
        "npcorrect.proposing",
        "npcorrect.vlm.build",
        "npcorrect.vlm.fake",
        "npcorrect.vlm.roles",
    ],
)
def test_the_core_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Where the tests find official files, which the repository does not contain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("NPC_DATA") or Path(__file__).parents[3] / "shared" / "data")


def needs(name: str) -> Path:
    """The folder of official files; skips where this one is missing."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"{name} is not in {FOLDER}; set NPC_DATA to a folder that has it.")
    return FOLDER

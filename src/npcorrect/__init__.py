"""Negative prompting for image correction: draw, look, find the negative, draw again.

``correct`` is the loop; the records are what flows through it. No torch is loaded here: image
models come from :mod:`npcorrect.diffusion`, the embedded world from :mod:`npcorrect.mini`.
"""

from npcorrect.errors import InputError, NpcError, VLMError
from npcorrect.loop import correct, finish, select
from npcorrect.records import (
    Attempt,
    Candidate,
    Caption,
    Check,
    Checklist,
    Cost,
    Generation,
    Ranked,
    Request,
    Requirement,
    Result,
    Verdict,
)

__all__ = [
    "Attempt",
    "Candidate",
    "Caption",
    "Check",
    "Checklist",
    "Cost",
    "Generation",
    "InputError",
    "NpcError",
    "Ranked",
    "Request",
    "Requirement",
    "Result",
    "VLMError",
    "Verdict",
    "correct",
    "finish",
    "select",
]

"""Negative prompting for image correction: draw, look, find the negative, draw again.

``correct_prompt`` does it all in one call; ``open_session`` keeps a model and its roles open;
``correct`` is the loop itself, over whatever model and roles. The records are what flows through
it. No torch is loaded before a model is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npcorrect.api import correct_prompt, from_pipeline, load, roles
    from npcorrect.errors import InputError, NpcError, VLMError
    from npcorrect.interval import Interval
    from npcorrect.loop import Correction, Event, correct
    from npcorrect.plan import Plan
    from npcorrect.records import (
        Attempt,
        Candidate,
        Caption,
        Check,
        Checklist,
        Cost,
        Drawing,
        Generation,
        Origin,
        Ranked,
        Receipt,
        Request,
        Requirement,
        Usage,
        Verdict,
    )
    from npcorrect.result import Result, load_result, select
    from npcorrect.session import Session, SessionSettings, open_session
    from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings

_MODULES = {
    "Attempt": "npcorrect.records",
    "Candidate": "npcorrect.records",
    "Caption": "npcorrect.records",
    "Check": "npcorrect.records",
    "Checklist": "npcorrect.records",
    "Correction": "npcorrect.loop",
    "Cost": "npcorrect.records",
    "DrawSettings": "npcorrect.settings",
    "Drawing": "npcorrect.records",
    "Event": "npcorrect.role_calls",
    "Generation": "npcorrect.records",
    "InputError": "npcorrect.errors",
    "Interval": "npcorrect.interval",
    "LoadSettings": "npcorrect.settings",
    "NpcError": "npcorrect.errors",
    "Origin": "npcorrect.records",
    "Plan": "npcorrect.plan",
    "Ranked": "npcorrect.records",
    "Receipt": "npcorrect.records",
    "Request": "npcorrect.records",
    "Requirement": "npcorrect.records",
    "Result": "npcorrect.result",
    "RoleSettings": "npcorrect.settings",
    "Session": "npcorrect.session",
    "SessionSettings": "npcorrect.session",
    "Usage": "npcorrect.records",
    "VLMError": "npcorrect.errors",
    "Verdict": "npcorrect.records",
    "correct": "npcorrect.loop",
    "correct_prompt": "npcorrect.api",
    "from_pipeline": "npcorrect.api",
    "load": "npcorrect.api",
    "load_result": "npcorrect.result",
    "open_session": "npcorrect.session",
    "roles": "npcorrect.api",
    "select": "npcorrect.result",
}
"""Where each public name stands; it is imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    """A public name, so that ``npc --help`` and every submodule start without all others."""
    if name == "__version__":
        from importlib.metadata import version

        return version("npcorrect")
    if name not in _MODULES:
        raise AttributeError(f"module 'npcorrect' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__


__all__ = [
    "Attempt",
    "Candidate",
    "Caption",
    "Check",
    "Checklist",
    "Correction",
    "Cost",
    "DrawSettings",
    "Drawing",
    "Event",
    "Generation",
    "InputError",
    "Interval",
    "LoadSettings",
    "NpcError",
    "Origin",
    "Plan",
    "Ranked",
    "Receipt",
    "Request",
    "Requirement",
    "Result",
    "RoleSettings",
    "Session",
    "SessionSettings",
    "Usage",
    "VLMError",
    "Verdict",
    "__version__",
    "correct",
    "correct_prompt",
    "from_pipeline",
    "load",
    "load_result",
    "open_session",
    "roles",
    "select",
]

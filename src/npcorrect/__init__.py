"""Negative prompting for image correction: draw, look, find the negative, draw again.

``correct_prompt`` does it all in one call; ``open_session`` keeps a model and its roles open;
``correct`` is the loop itself, over whatever model and roles. The records are what flows through
it. No torch is loaded before a model is.
"""

from importlib.metadata import version

from npcorrect.errors import InputError, NpcError, VLMError
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
    Request,
    Requirement,
    Usage,
    Verdict,
)
from npcorrect.result import Result, load_result, select
from npcorrect.session import (
    Session,
    SessionSettings,
    correct_prompt,
    from_pipeline,
    load,
    open_session,
    roles,
)
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings

__version__ = version("npcorrect")

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
    "LoadSettings",
    "NpcError",
    "Origin",
    "Plan",
    "Ranked",
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

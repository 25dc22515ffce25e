"""Everything that npcorrect raises on purpose.

    NpcError
    |-- InputError              the user gave something that cannot work; exit code 2
    |   |-- PromptError         empty, too long, or not understood
    |   |-- SettingsError       a value out of range, or a file that cannot be read
    |   |-- ModelError          unknown, missing, corrupt, or unable to do what was asked
    |   `-- OutputError         a place that cannot be written
    |-- RunStoppedError         its judge or verifier answers no more; exit code 4
    `-- VLMError                a role got no usable answer; the thing asked about is unscored
        `-- BudgetError         the next question might pass the user's limit; it was not asked

Each message is one sentence or two: what was wrong, with its value, and what to do next.
"""

from __future__ import annotations


class NpcError(Exception):
    """Base of all errors that npcorrect raises on purpose."""


class InputError(NpcError):
    """The user gave something that cannot work."""


class PromptError(InputError):
    """A prompt is empty, too long, or not understood."""


class SettingsError(InputError):
    """A setting is out of range, unknown, or in a file that cannot be read."""


class ModelError(InputError):
    """A model is unknown, missing, corrupt, or unable to do what was asked."""


class OutputError(InputError):
    """A file or folder that cannot be made, locked or written."""


class RunStoppedError(NpcError):
    """A run was stopped because nothing more can be had; what was finished is kept."""


class VLMError(NpcError):
    """A role got no usable answer. Carries the raw reply, which is never a verdict."""

    def __init__(self, message: str, raw: str = "") -> None:
        super().__init__(message)
        self.raw = raw


class BudgetError(VLMError):
    """The next question might pass the user's limit, so it was not asked, and none will be."""

"""Whose each row of a denoiser call is: said by who makes the call, heard by who watches it.

Whoever evaluates a denoiser knows the step and the branches for certain; whoever records what goes
on inside it must not guess them. So the one announces and the other asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Branch = Literal["positive", "empty", "negative"]
"""The text of a row: the prompt, the empty text that guides, or the negative prompt."""


@dataclass(frozen=True)
class Evaluation:
    """One call of a denoiser: its step, from 0, and the picture and branch of each of its rows.

    Steps are the pipeline's here, one for each call of the scheduler, of which a second-order one
    has several within a step of its own. Pictures count from 0 in the order of a draw. A branch of
    a picture is evaluated once a step.
    """

    step: int
    rows: tuple[tuple[int, Branch], ...]


_now: ContextVar[Evaluation | None] = ContextVar("npcorrect_evaluation", default=None)


def announced() -> Evaluation | None:
    """The evaluation going on, or None where nobody has said what it is."""
    return _now.get()


@contextmanager
def announce(evaluation: Evaluation) -> Iterator[None]:
    """Say what the denoiser calls made in this block are."""
    token = _now.set(evaluation)
    try:
        yield
    finally:
        _now.reset(token)

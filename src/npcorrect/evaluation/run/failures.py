"""Stops a run whose judge or verifier has failed for good."""

from __future__ import annotations

from npcorrect.errors import RunStoppedError
from npcorrect.evaluation.run.records import Record

IN_A_ROW = 5
"""Samples in a row on which the judge or the verifier may fail before a run stops."""


class Failures:
    """Counts the samples in a row that are left without a verdict or a score."""

    def __init__(self, limit: int = IN_A_ROW) -> None:
        self._limit = limit
        self._failed: set[tuple[int, int]] = set()

    def see(self, record: Record) -> None:
        """Take note of a record that was just finished.

        A judge that answers nobody until the user acts is not asked again.

        Raises:
            RunStoppedError: it is one failure too many.
        """
        reason = failure(record)
        if not reason:
            self._failed.clear()
            return
        self._failed.add((record.key.sample, record.key.repeat))
        fatal = any(step.score is not None and step.score.fatal for step in record.steps)
        if fatal or len(self._failed) >= self._limit:
            raise RunStoppedError(
                f"Stopped after {len(self._failed)} samples in a row without an answer; the last "
                f"one: {reason} What was finished is kept; give the same command again to go on."
            )


def failure(record: Record) -> str:
    """Why a record is open: what its verifier or its judge said; empty where it is not."""
    if record.unverified:
        error = next(s.error for s in record.steps if s.accepted is None and s.error)
        return f"the verifier: {error}"
    opened = [s.score for s in record.steps if s.score is not None and s.score.open]
    return f"the judge: {opened[0].reason}" if opened else ""

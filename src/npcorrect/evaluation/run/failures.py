"""Stops a run whose judge or verifier has failed for good."""

from __future__ import annotations

from npcorrect.errors import RunStoppedError
from npcorrect.evaluation.run.records import Record

IN_A_ROW = 5
"""Samples in a row on which the judge or the verifier may fail before a run stops."""
FATAL_IN_A_ROW = 3
"""As many, where the judge can answer nobody until the user acts: no key, no model, no server."""


class Failures:
    """Counts the samples in a row that are left without a verdict or a score."""

    def __init__(self, limit: int = IN_A_ROW, fatal_limit: int = FATAL_IN_A_ROW) -> None:
        self._limit, self._fatal_limit = limit, fatal_limit
        self._failed: dict[tuple[int, int], bool] = {}

    def see(self, record: Record) -> None:
        """Take note of a record that was just finished.

        Raises:
            RunStoppedError: it is one failure too many.
        """
        reason = failure(record)
        if not reason:
            self._failed.clear()
            return
        fatal = any(step.score is not None and step.score.fatal for step in record.steps)
        self._failed[record.key.sample, record.key.repeat] = fatal
        if len(self._failed) >= self._limit or sum(self._failed.values()) >= self._fatal_limit:
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

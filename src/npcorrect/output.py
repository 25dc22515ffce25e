"""An output folder: claimed for one correction, locked while it is written, and continued."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from PIL.Image import Image

from npcorrect.errors import OutputError
from npcorrect.files import locked, open_picture, prepare
from npcorrect.loop import OnEvent, sized
from npcorrect.plan import batches
from npcorrect.provenance import Provenance
from npcorrect.records import Checklist, Request
from npcorrect.result import (
    Result,
    damaged,
    file_name,
    load_result,
    read_cost,
    read_record,
    read_request,
)
from npcorrect.session import Session, SessionSettings

State = Literal["new", "begun", "finished"]
"""What a folder holds of a correction; see :meth:`OutputFolder.state`."""
LOCK = ".npc.lock"
_NAMES = ("result.json", "best.png", "sheet.png", "original.png", "attempt-*.png")
_REMEDY = "choose another with --out, or --overwrite it"


@dataclass(frozen=True)
class OutputFolder:
    """A folder for the correction of one request, by settings, of an original if there is one."""

    path: Path
    request: Request
    settings: SessionSettings
    original: Image | None = None

    @property
    def record_path(self) -> Path:
        """The path of the folder's ``result.json``, whether or not it is written yet."""
        return self.path / "result.json"

    @property
    def asked(self) -> Result:
        """The result before anything is drawn: request and settings, without claims or attempts."""
        settings = self.settings
        request = settings.policy(self.request)
        if self.original is not None:
            request = sized(request, self.original)
        made_with = Provenance(load=settings.load, roles=settings.roles)
        return Result(request, Checklist(request.prompt, ()), (), made_with=made_with)

    def state(self) -> State:
        """What the folder holds.

        ``begun`` is a correction that was interrupted, stopped, or ended without a verdict.

        Raises:
            OutputError: it holds what is not this correction's.
            SettingsError: the record in it cannot be read.
        """
        if not self.path.exists():
            return "new"
        if not self.path.is_dir():
            raise OutputError(f"{str(self.path)!r} is no folder; choose another place with --out.")
        if not self.record_path.is_file():
            if names := self._names():
                raise OutputError(
                    f"{str(self.path)!r} has a {names[0].name} that no record tells of; {_REMEDY}."
                )
            return "new"
        record = read_record(self.record_path, _REMEDY)
        self._refuse_another(record)
        if record["attempts"] and not self._begins_alike(record["attempts"][0]):
            raise OutputError(f"{str(self.path)!r} begins with another original; {_REMEDY}.")
        open_ends = (None, "stopped", "budget", "unscored")
        return "begun" if record.get("ended") in open_ends else "finished"

    def refuse_finished(self) -> State:
        """What the folder holds, where it is not this correction, finished, or something else.

        Raises:
            OutputError: it does.
            SettingsError: the record in it cannot be read.
        """
        state = self.state()
        if state == "finished":
            raise OutputError(
                f"{str(self.path)!r} holds this correction, finished; see its result.json, or "
                f"{_REMEDY}."
            )
        return state

    @contextmanager
    def claimed(self, overwrite: bool = False) -> Generator[Result]:
        """Claim the folder, alone, for as long as the block lasts; what is in it stays.

        Yields what was finished of the correction before, with which it can go on; nothing with
        ``overwrite``.

        Raises:
            OutputError: it holds something else, is being written to, or cannot be written.
            SettingsError: the record in it cannot be read.
        """
        prepare(self.path)
        with _locked(self.path):
            # What a killed process was writing; nobody else writes here now.
            _remove([one for name in _NAMES for one in self.path.glob(f".{name}.*")])
            if overwrite:
                yield self.asked
                return
            yield self._continuable() if self.refuse_finished() == "begun" else self.asked

    def begin(self, begun: Result) -> None:
        """Leave nothing in the folder but what a correction goes on with.

        Raises:
            OutputError: the folder cannot be written.
        """
        begun.save_record(self.path)
        kept = {"result.json", *(file_name(attempt.index) for attempt in begun.attempts)}
        _remove([one for one in self._names() if one.name not in kept])

    def _names(self) -> list[Path]:
        """The files in the folder that are named as a correction's."""
        return [one for name in _NAMES for one in self.path.glob(name)]

    def _refuse_another(self, record: Mapping[str, Any]) -> None:
        try:
            request, made_with, _ = read_request(record)
        except ValueError as error:
            raise damaged(self.record_path, error, _REMEDY) from None
        asked = self.asked
        assert asked.made_with is not None
        if request != asked.request or not (made_with and asked.made_with.asks_the_same(made_with)):
            raise OutputError(
                f"{str(self.path)!r} holds the correction of another request "
                f"({_difference(request, asked.request)}); {_REMEDY}."
            )

    def _continuable(self) -> Result:
        """What is in the folder up to the end of a batch, as long as it is scored."""
        kept = load_result(self.path)
        scored = [*takewhile(lambda a: a.verdict.accepted is not None, kept.attempts)]
        negatives = [one.generation.drawing.negative_prompt for one in scored[1:]]
        drawn = batches(negatives, self.request.batch)
        if drawn and len(drawn[-1]) < self.request.batch:  # others of it may be missing
            scored = scored[: drawn[-1].start + 1]
        return replace(kept, attempts=tuple(scored), ended=None)

    def _begins_alike(self, first: Mapping[str, Any]) -> bool:
        """Whether a record's first attempt is this original, or was drawn where there is none."""
        try:
            given = read_cost(first["cost"]).images == 0
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(self.record_path, error, _REMEDY) from None
        if self.original is None or not given:
            return self.original is None and not given
        kept = open_picture(self.path / file_name(0))
        return kept.size == self.original.size and kept.tobytes() == self.original.tobytes()


def correct_into(
    folder: OutputFolder, begun: Result, session: Session, on_event: OnEvent | None = None
) -> Result:
    """Go on with what was begun in a claimed folder; each attempt is written once it is final.

    Raises:
        InputError: the request cannot work, or the folder cannot be written.
    """
    correction = session.correct(folder.request, on_event, original=folder.original, begun=begun)
    known = len(begun.attempts)
    for attempt in correction:
        if attempt.index == known:
            folder.begin(begun)
        if attempt.index >= known:
            correction.result.save_attempt(folder.path, attempt)
            correction.result.save_summary(folder.path)
    correction.result.save_summary(folder.path)
    return correction.result


def _difference(kept: Request, asked: Request) -> str:
    """What tells a kept request from the one that is asked for, in a few words."""
    if kept.prompt != asked.prompt:
        return repr(kept.prompt[:60])
    names = [f.name for f in fields(Request) if getattr(kept, f.name) != getattr(asked, f.name)]
    pairs = [f"{name} {_said(kept, name)}, not {_said(asked, name)}" for name in names[:3]]
    return "; ".join(pairs) or "with another model or other roles"


def _said(request: Request, name: str) -> str:
    value = getattr(request, name)
    return "by default" if value is None else str(value)


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes out of a folder; see :func:`npcorrect.files.locked`."""
    return locked(
        folder / LOCK,
        f"Another process writes to {str(folder)!r}; wait for it, or choose another folder "
        "with --out.",
    )


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(
                f"Cannot remove {str(path)!r} ({error.strerror}); choose another place with --out."
            ) from None

"""Answers that were paid for once: kept for a run, and in an SQLite file for later runs."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from npcorrect.files import foreign_to_database
from npcorrect.vlm.addresses import identity
from npcorrect.vlm.base import VLM, Memory, Question, Reply, Usage
from npcorrect.vlm.pictures import fingerprint
from npcorrect.vlm.reasoning import UnusableError
from npcorrect.vlm.replies import read
from npcorrect.vlm.usage import bought, price
from npcorrect.vlm.wrapper import VLMWrapper

VERSION = 3
"""Of what is kept; answers of other versions are not found."""
_WAIT = 30.0
"""Seconds to wait for another process to finish writing."""
_log = logging.getLogger(__name__)
_Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]


class AnswerMemory:
    """Texts under keys, for as long as this object lives. Safe to use from several threads."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def recall(self, key: str) -> str | None:
        """The text under a key, or None."""
        return self._texts.get(key)

    def keep(self, key: str, value: str) -> None:
        """Keep a text; the last one under a key stays."""
        self._texts[key] = value


class AnswerFile:
    """Texts under keys, in a file that several processes may share.

    A file that cannot be used, or cannot be used any more, is given up with a warning: what is
    asked is then kept for this run alone. A killed process leaves nothing behind but what it had
    finished.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memory = AnswerMemory()
        self._usable = True
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            if foreign := foreign_to_database(path.resolve()):
                raise OSError(foreign)
        except OSError as error:
            self._give_up(error)
        self._run("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def recall(self, key: str) -> str | None:
        """The text under a key, or None."""
        known = self._memory.recall(key)
        if known is not None:
            return known
        rows = self._run("SELECT value FROM answers WHERE key = ?", key)
        return rows[0][0] if rows and isinstance(rows[0][0], str) else None

    def keep(self, key: str, value: str) -> None:
        """Keep a text; the last one under a key stays."""
        self._memory.keep(key, value)
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?)", key, value)

    def _run(self, statement: str, *values: str) -> list[tuple[object, ...]]:
        """The rows of one statement, which is carried out wholly or not at all."""
        if not self._usable:
            return []
        try:
            with self._connection(writes=not statement.startswith("SELECT")) as connection:
                return connection.execute(statement, values).fetchall()
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self._give_up(error)
            return []

    @contextmanager
    def _connection(self, *, writes: bool) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)
        try:
            # Only a transaction that is to write from its beginning waits for others to end.
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        finally:
            connection.close()

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            if self._usable:
                self._usable = False
                _log.warning(
                    "The file of answers %r cannot be used (%s); answers are kept for this run "
                    "alone. Delete it, name another in the settings, or use --no-cache.",
                    str(self._path),
                    error,
                )


class _Row(BaseModel):
    """A reply as it is kept."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    probabilities: dict[str, _Share]
    fields: dict[str, dict[str, _Share]]
    tokens: dict[str, _Share]
    model: str


class CachedVLM(VLMWrapper):
    """Answers identical questions from what is kept; what failed is never kept.

    A known answer costs nothing, but for a :class:`~npcorrect.vlm.usage.Payer`: it pays what the
    answer took when this object asked for it.

    What is kept is trusted no more than a fresh reply: it passes the question's checks, or the
    question is asked again.
    """

    def __init__(self, vlm: VLM, memory: Memory) -> None:
        super().__init__(vlm)
        self._memory = memory
        self._took: dict[str, Usage] = {}

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """A reply for each question, in order; identical questions are asked once.

        Raises:
            InputError: nothing was ever answered, and nothing can be.
        """
        keys = [self._key(question) for question in questions]
        asked = dict(zip(keys, questions, strict=True))
        replies = {key: known for key, q in asked.items() if (known := self._recall(key, q))}
        new = {key: q for key, q in asked.items() if key not in replies}
        fresh = dict(zip(new, self._vlm.ask(list(new.values())), strict=True)) if new else {}
        for key, reply in fresh.items():
            bought(key)
            if not reply.error:
                self._took[key] = reply.usage
                self._memory.keep(key, _to_text(reply))
        answers = []
        for key in keys:
            first = key in fresh and key not in replies
            answers.append(fresh[key] if first else self._once_more(key, replies[key]))
            replies.setdefault(key, answers[-1])
        return answers

    def forget(self, questions: Sequence[Question]) -> None:
        """Ask these again where they come again: what was answered could not be used."""
        for question in questions:
            self._memory.keep(self._key(question), "")

    def _once_more(self, key: str, reply: Reply) -> Reply:
        usage = price(key, self._took.get(key, Usage()))
        return replace(reply, usage=usage, cached=True)

    def _recall(self, key: str, question: Question) -> Reply | None:
        """The reply that is kept, where it still is one to this question."""
        text = self._memory.recall(key)
        try:
            row = _Row.model_validate_json(text) if text else None
            if row is None or read(row.text, question).text != row.text:
                return None
        except (ValidationError, UnusableError):
            return None
        if not all(fits(shares, question) for shares in (row.probabilities, *row.fields.values())):
            return None
        if sum(row.tokens.values()) > 1 + 1e-6 or (row.tokens and not question.tokens):
            return None
        return Reply(
            row.text, "", row.probabilities, row.fields, row.tokens, model=row.model, cached=True
        )

    def _key(self, question: Question) -> str:
        """A name for everything that the answer depends on."""
        messages = [
            (m.role, m.text, [fingerprint(i) for i in m.images], m.text_first, repr(m.encoding))
            for m in question.messages
        ]
        parts = (
            VERSION, identity(self.name), messages, question.schema, question.choices,
            question.temperature, question.max_tokens, question.seed, question.tokens,
        )  # fmt: skip
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fits(shares: Mapping[str, float], question: Question) -> bool:
    """Whether these can be the probabilities of a question's choices."""
    return shares.keys() <= set(question.choices) and sum(shares.values()) <= 1 + 1e-6


def _to_text(reply: Reply) -> str:
    fields = {name: dict(shares) for name, shares in reply.fields.items()}
    row = _Row(
        text=reply.text,
        probabilities=dict(reply.probabilities),
        fields=fields,
        tokens=dict(reply.tokens),
        model=reply.model,
    )
    return row.model_dump_json()

"""Answers that were paid for once, kept in an SQLite file.

SQLite in WAL mode lets processes read and write at once, and a killed process leaves nothing
behind but what it had finished.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from npcorrect.errors import SettingsError
from npcorrect.vlm.base import VLM, Question, Reply, Usage
from npcorrect.vlm.pictures import fingerprint

_WAIT = 30.0
"""Seconds to wait for another process to finish writing."""


class AnswerFile:
    """Texts under keys, in a file that several processes may share.

    Raises:
        SettingsError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise self._unusable(error) from None
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )

    def recall(self, key: str) -> str | None:
        """The text under a key, or None."""
        with self._connection() as connection:
            query = "SELECT value FROM answers WHERE key = ?"
            row = connection.execute(query, (key,)).fetchone()
        return row[0] if row else None

    def keep(self, key: str, value: str) -> None:
        """Keep a text; the first one under a key stays."""
        with self._connection() as connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, value))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own, whose changes are all made or none."""
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"The file of answers {str(self._path)!r} cannot be used ({error}); delete it, name "
            "another in the settings, or use --no-cache."
        )


class CachedVLM:
    """Answers identical questions from a file; what failed is never kept."""

    def __init__(self, vlm: VLM, file: AnswerFile) -> None:
        self._vlm, self._file = vlm, file

    @property
    def name(self) -> str:
        """The model's own name."""
        return self._vlm.name

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer in order; identical questions of one call are asked once."""
        keys = [self._key(question) for question in questions]
        replies = {key: known for key in dict.fromkeys(keys) if (known := self._recall(key))}
        new = {key: q for key, q in zip(keys, questions, strict=True) if key not in replies}
        fresh = dict(zip(new, self._vlm.ask(list(new.values())), strict=True)) if new else {}
        for key, reply in fresh.items():
            if not reply.error:
                self._file.keep(key, _to_text(reply))
        answers = []
        for key in keys:
            first = key in fresh and key not in replies
            answers.append(fresh[key] if first else _free(replies[key]))
            replies.setdefault(key, answers[-1])
        return answers

    def _recall(self, key: str) -> Reply | None:
        text = self._file.recall(key)
        return Reply(**json.loads(text), cached=True) if text else None

    def _key(self, question: Question) -> str:
        """A name for everything that the answer depends on."""
        messages = [
            (m.role, m.text, [fingerprint(i) for i in m.images], m.text_first, repr(m.encoding))
            for m in question.messages
        ]
        parts = (
            self.name, messages, question.schema, question.choices, question.temperature,
            question.max_tokens, question.seed, question.tokens,
        )  # fmt: skip
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _free(reply: Reply) -> Reply:
    """The reply once more, at no cost."""
    return replace(reply, usage=Usage(), cached=True)


def _to_text(reply: Reply) -> str:
    kept = {
        "text": reply.text,
        "probabilities": dict(reply.probabilities),
        "tokens": dict(reply.tokens),
        "model": reply.model,
    }
    return json.dumps(kept)

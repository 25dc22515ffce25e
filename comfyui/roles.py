"""Who looks at the pictures: a specification that travels in the graph, and roles that it opens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from npcorrect.errors import SettingsError
from npcorrect.session import SessionSettings
from npcorrect.settings import LoadSettings, RoleSettings
from npcorrect.vlm import build
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.settings import VLMTable

from .family import Row

T = TypeVar("T")
Check = Callable[[], None]
"""Called again and again while a role thinks; ends the waiting by an exception."""
_PAUSE = 0.05
"""Seconds between two checks."""


@dataclass(frozen=True)
class RolesSpec:
    """Which models play the roles. It holds no key and no connection; both are had by ``open``."""

    settings: RoleSettings = field(default_factory=RoleSettings)

    def session(self, row: Row) -> SessionSettings:
        """The settings of a session with a model of this row.

        Raises:
            SettingsError: the embedded roles cannot read its pictures.
        """
        if self.settings.embedded_verifier and not row.miniature:
            raise SettingsError(
                "The embedded verifier reads the embedded model's pictures alone; name a "
                "vision-language model in NPC Roles, as vlm."
            )
        return SessionSettings(load=LoadSettings(model=row.name), roles=self.settings)

    @contextmanager
    def open(self, embedded: bool, check: Check) -> Generator[Roles]:
        """The roles, let go of at the end; ``check`` can end the waiting for any of them.

        With ``embedded``, the embedded model's own play what no other model is named for.

        Raises:
            SettingsError: a name, key or price is missing.
            ModelError: a server is not to be had.
        """
        from npcorrect.mini.roles import embedded_roles

        # A workflow may come from anyone: only the user's own environment says where a key goes.
        table = VLMTable(key_for=os.environ.get("NPC_VLM", ""))
        settings = SessionSettings(roles=self.settings, table=table).vlm
        build.check_roles(settings, embedded)
        pool = ThreadPoolExecutor(1, "npcorrect-roles")
        opening = build.roles(settings, embedded_roles() if embedded else None)
        opened = pool.submit(opening.__enter__)
        try:
            yield _patient(awaited(opened, check), pool, check)
        finally:
            opened.add_done_callback(lambda _: _left(opening, opened))
            pool.shutdown(wait=False, cancel_futures=True)


def _left(opening: AbstractContextManager[Roles], opened: Future[Roles]) -> None:
    """Leave what was entered, also where nobody waited for that."""
    if opened.exception() is None:
        opening.__exit__(None, None, None)


def _patient(roles: Roles, pool: ThreadPoolExecutor, check: Check) -> Roles:
    """The same roles, asked in another thread while the caller's stays free to check."""

    def asked(role: Any) -> Any:
        return _Asked(role, pool, check)

    return Roles(
        asked(roles.checklister),
        asked(roles.verifier),
        asked(roles.captioner),
        asked(roles.proposer),
    )


class _Asked:
    """Any role; its methods are called in a thread of ``pool``."""

    def __init__(self, role: Any, pool: ThreadPoolExecutor, check: Check) -> None:
        self._role, self._pool, self._check = role, pool, check

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._role, name)

        def call(*args: Any, **named: Any) -> Any:
            asked = self._pool.submit(copy_context().run, method, *args, **named)
            return awaited(asked, self._check)

        return call


def awaited(future: Future[T], check: Check) -> T:
    """What a future comes to, as soon as it is there, or the exception of ``check``."""
    while not future.done():
        check()
        time.sleep(_PAUSE)
    return future.result()

"""From settings to a server that listens."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn

from npcorrect.errors import SettingsError
from npcorrect.serve.app import ServerSettings, create_app
from npcorrect.serve.remote import remote_session
from npcorrect.serve.security import Access
from npcorrect.serve.service import Limits
from npcorrect.serve.store import open_store
from npcorrect.serve.worker import Opened
from npcorrect.session import SessionSettings, check_request, family_of, open_session
from npcorrect.workers import Pool

CONNECTIONS = 100
"""Connections at once, of which each page holds one."""


def run(
    settings: SessionSettings,
    access: Access,
    port: int,
    out: Path,
    limits: Limits,
    *,
    a1111: bool,
    say: Callable[[str], None],
    pool: Pool | None = None,
) -> None:
    """Serve until Ctrl-C, SIGTERM, or until no session is to be had. Port 0 is any free one.

    The model is here, or with each worker of a pool.

    Raises:
        InputError: the port is taken, the folder cannot be used, or the model is not to be had.
    """
    family = family_of(settings.load)
    with (
        _listening(access.host, port) as listener,
        open_store(out) as store,
        _sessions(settings, pool) as opened,
    ):
        app = create_app(
            ServerSettings(
                model=settings.load.model,
                store=store,
                opened=opened,
                check=partial(check_request, settings, family=family),
                on_failure=lambda: setattr(server, "should_exit", True),
                access=access,
                limits=limits,
                a1111=a1111,
                workers=pool.workers if pool else 1,
            )
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        say(f"npc serves at {_address(access.host, listener)}; Ctrl-C ends it.")
        # uvicorn raises the signal again when it is done; Ray's own handler made an error of it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        server.run([listener])
        failure = app.state.service.workers.failure
    if failure is not None:
        raise failure


@contextmanager
def _sessions(settings: SessionSettings, pool: Pool | None) -> Iterator[Opened]:
    """What opens a session, as often as there are workers."""
    here = partial(open_session, settings)
    if pool is None:
        yield here
    else:
        with pool.started() as ray:
            yield partial(remote_session, ray, pool, here)


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address.

    Raises:
        SettingsError: it cannot be had.
    """
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=kind, reuse_port=False)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"Cannot listen on {host}, port {port} ({reason}); choose others with --host and "
            "--port."
        ) from None


def _address(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"

"""``npc serve``: a page and an HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from npcorrect.cli.app import app, path_option, reporting_errors
from npcorrect.cli.options import takes_settings
from npcorrect.cli.worker_options import RayAddress, Threads, Workers, pool_alone
from npcorrect.settings import LoadSettings, RoleSettings

if TYPE_CHECKING:
    from npcorrect.serve.security import Access


def _option(name: str, help_text: str, **more: Any) -> Any:
    variable = "NPC_SERVE_" + name.upper().replace("-", "_")
    panel = "Server"
    return typer.Option(f"--{name}", envvar=variable, help=help_text, rich_help_panel=panel, **more)


@app.command()
@reporting_errors
@takes_settings
def serve(
    context: typer.Context,
    load: LoadSettings,
    roles: RoleSettings,
    host: Annotated[
        str, _option("host", "Address to listen on; another than this machine needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, _option("port", "Port to listen on.", min=0, max=65535)] = 7860,
    token: Annotated[
        str | None,
        _option("token", "What clients must send as a bearer token, browsers as a password."),
    ] = None,
    out: Annotated[
        Path,
        path_option(
            "--out",
            envvar="NPC_SERVE_OUT",
            help="Folder that keeps the jobs and their pictures.",
            rich_help_panel="Server",
        ),
    ] = Path("jobs"),
    queue: Annotated[int, _option("queue", "Jobs that may wait.", min=1, max=100_000)] = 64,
    max_side: Annotated[
        int, _option("max-side", "Longest side of a picture in pixels.", min=16, max=16384)
    ] = 2048,
    a1111: Annotated[bool, _option("a1111", "Answer clients of A1111's API, too.")] = False,
    workers: Workers = 1,
    threads: Threads = None,
    ray_address: RayAddress = None,
) -> None:
    """Serve a page to draw and correct pictures on, and an HTTP API.

    Jobs survive the end of the server: give the same folder again.

    Example: npc serve, then open http://127.0.0.1:7860
    """
    _require_packages()
    from npcorrect.serve.server import run
    from npcorrect.serve.service import Limits
    from npcorrect.session import SessionSettings, check, check_device
    from npcorrect.vlm.settings import read_table

    access = _access(host, token)
    settings = SessionSettings(load=load, roles=roles, table=read_table(context.obj or {}))
    check(settings)
    shared = pool_alone(context, workers, threads, ray_address, load, roles)
    if shared is None:
        check_device(load)
    limits = Limits(side=max_side, queue=queue)
    run(settings, access, port, out.expanduser(), limits, a1111=a1111, say=typer.echo, pool=shared)


def _require_packages() -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        SettingsError: one is not installed.
    """
    from npcorrect.extras import require

    for package in ("fastapi", "python_multipart", "uvicorn"):
        require(package, "npc serve")


def _access(host: str, token: str | None) -> Access:
    """Who may ask.

    Raises:
        SettingsError: others could ask without a token, or the token could not be sent.
    """
    from npcorrect.errors import SettingsError
    from npcorrect.serve.security import LOOPBACK, Access

    if token is not None and not (token.isascii() and token.isprintable() and len(token) >= 16):
        raise SettingsError("The token is too short; give 16 letters, digits or signs at least.")
    if host not in LOOPBACK and token is None:
        raise SettingsError(f"--host {host} lets others ask; say with --token what they must send.")
    return Access(host, token)

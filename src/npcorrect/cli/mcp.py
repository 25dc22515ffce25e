"""``npc mcp``: tools for assistants, over standard input and output."""

from __future__ import annotations

import typer

from npcorrect.cli.app import app, reporting_errors
from npcorrect.cli.options import takes_settings
from npcorrect.settings import LoadSettings, RoleSettings


@app.command()
@reporting_errors
@takes_settings
def mcp(context: typer.Context, load: LoadSettings, roles: RoleSettings) -> None:
    """Serve two tools to assistants by the Model Context Protocol, over standard input and output.

    The tools are draw_and_correct and verify_picture; the assistant starts this command by itself.

    Example, for an assistant: {"mcpServers": {"npc": {"command": "npc", "args": ["mcp"]}}}
    """
    from npcorrect.extras import require
    from npcorrect.session import SessionSettings
    from npcorrect.vlm.settings import read_table

    require("mcp", "npc mcp")
    from npcorrect.mcp import serve

    serve(SessionSettings(load=load, roles=roles, table=read_table(context.obj or {})))

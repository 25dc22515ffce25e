"""The program in this process, for what a start of its own would only slow down."""

from __future__ import annotations

from subprocess import CompletedProcess

from typer.testing import CliRunner

from npcorrect.cli import app


def inside(*arguments: str) -> CompletedProcess[str]:
    """Run the command here; what a run of the installed program would have returned."""
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

"""The help of every command says in words what is to be typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from npcorrect import cli
from npcorrect.cli.metavars import App, in_words
from tests.e2e.program import inside


def commands(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)


EVERY = tuple(commands(get_command(cli.app)))
TAKEN = re.compile(r"(?<!`)<([^<>\n]*\S)>")
PYTHON = {"str", "int", "float", "bool", "list", "tuple", "dict", "Path", "None", "range", "Any"}


def test_all_commands_are_tried() -> None:
    assert len(EVERY) > 15
    assert ("bench", "merge") in EVERY


@pytest.mark.parametrize("names", EVERY, ids=" ".join)
def test_no_help_shows_a_type_of_python(names: tuple[str, ...]) -> None:
    shown = inside(*names, "--help")
    assert shown.returncode == 0
    for taken in TAKEN.findall(shown.stdout):
        words = set(re.findall(r"\w+", taken))
        assert taken in ("text", "number", "path") or "|" in taken
        assert not words & (PYTHON - {"None"})
    assert not re.search(r"\b(INTEGER|TEXT|PATH|FLOAT|BOOLEAN)\b|list\[", shown.stdout)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("<list[Path]>", "<path>"),
        ("<Path>", "<path>"),
        ("<list[str]>", "<text>"),
        ("<int range>", "<number>"),
        ("<float>", "<number>"),
        ("<bool>", ""),
        ("<none|model>", "<none|model>"),
    ],
)
def test_types_are_words(shown: str, words: str) -> None:
    assert in_words(shown) == words


def test_a_command_that_is_added_shows_words_too() -> None:
    app = App()

    @app.command()
    def draw(sides: list[int], fast: bool = False) -> None:
        typer.echo(f"{sides} {fast}")

    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "<number>" in shown
    assert not re.search("<(list|int|bool)", shown)
    assert CliRunner().invoke(app, ["3", "4", "--fast"]).stdout == "[3, 4] True\n"

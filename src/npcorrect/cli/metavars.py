"""What an option or an argument takes, in words: typer's help shows Python's types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_WORDS = {"str": "text", "int": "number", "float": "number", "Path": "path"}


class Command(TyperCommand):
    """A command whose help says in words what its options and arguments take."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with words for their types."""
        return [_worded(parameter, ctx) for parameter in super().get_params(ctx)]


class Group(TyperGroup):
    """A group of commands whose help says in words what its options take."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with words for their types."""
        return [_worded(parameter, ctx) for parameter in super().get_params(ctx)]


class App(typer.Typer):
    """An application of such commands and groups."""

    def __init__(self, **declared: Any) -> None:
        super().__init__(cls=Group, **declared)

    def command(self, name: str | None = None, **declared: Any) -> Callable[..., Any]:
        """A decorator that makes a command of a function; see ``typer.Typer.command``."""
        return super().command(name, cls=Command, **declared)


def in_words(shown: str) -> str:
    """What typer shows for a type, such as ``<list[Path]>``, in words.

    Choices stay as they are; a list takes one value at a time, and a flag takes none.
    """
    name = shown[1:-1].removeprefix("list[").removesuffix("]").removesuffix(" range")
    return "" if name == "bool" else f"<{_WORDS.get(name, name)}>"


def _worded(parameter: Any, context: Any) -> Any:
    shown = in_words(type(parameter).display_type(parameter, context))
    vars(parameter)["display_type"] = lambda _: shown
    return parameter

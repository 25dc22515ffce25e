"""From settings records to a command's options, and from what was typed back to records."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from npcorrect.errors import SettingsError
from npcorrect.settings import Option, Settings, check, options

T = TypeVar("T")


@dataclass(frozen=True)
class Only:
    """In an annotation: the fields of a settings record that a command takes."""

    fields: tuple[str, ...]


def takes_settings(command: Callable[..., T]) -> Callable[..., T]:
    """Expand a command's parameters that are settings records into their options.

    A parameter annotated ``DrawSettings`` takes all its options, ``Annotated[DrawSettings,
    Only(("ranker",))]`` some. The command receives the record, checked. A flag that the command
    declares itself is its own; the option keeps its other ones.
    """
    hints = get_type_hints(command, include_extras=True)
    command_flags = {flag for hint in hints.values() for flag in _flags(hint)}
    records = {name: kind for name, hint in hints.items() if (kind := _record(hint))}
    plain, expanded = [], []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in records:
            expanded += [_parameter(one, command_flags) for one in _taken(hints[parameter.name])]
        else:
            plain.append(parameter.replace(annotation=hints[parameter.name]))

    @wraps(command)
    def wrapped(**given: Any) -> T:
        for name, record in records.items():
            values = {one.field: given.pop(one.field) for one in _taken(hints[name])}
            given[name] = _made(record, values)
        return command(**given)

    everyday = [p for p in plain if p.default is inspect.Parameter.empty]
    output = [p for p in plain if p.default is not inspect.Parameter.empty]
    first = [p for p, advanced in expanded if not advanced]
    later = [p for p, advanced in expanded if advanced]
    ordered = [p.replace(kind=p.KEYWORD_ONLY) for p in (*everyday, *first, *output, *later)]
    wrapped.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in ordered}
    return wrapped


def option_names(command: Any) -> Mapping[str, tuple[Any, bool]]:
    """A command's options by the names of their flags, and whether the flag switches on."""
    named = {}
    for parameter in command.params:
        if parameter.param_type_name == "option":
            for flag in parameter.opts:
                named[flag.lstrip("-")] = (parameter, True)
            for flag in parameter.secondary_opts:
                named[flag.lstrip("-")] = (parameter, False)
    return {name: entry for name, entry in named.items() if len(name) > 1}


def refuse_given(context: typer.Context, parameters: Sequence[str], remedy: str) -> None:
    """Refuse options that would have no effect, where the command line names one.

    Raises:
        SettingsError: it does; ``remedy`` follows the option's name.
    """
    for name in parameters:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise SettingsError(f"--{name.replace('_', '-')} {remedy}.")


def _record(hint: Any) -> type[Settings] | None:
    kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def _taken(hint: Any) -> Sequence[Option]:
    record = _record(hint)
    assert record is not None
    chosen = [only for only in get_args(hint)[1:] if isinstance(only, Only)]
    fields = chosen[0].fields if chosen else None
    return [one for one in options(record) if fields is None or one.field in fields]


def _flags(hint: Any) -> tuple[str, ...]:
    """The flags that a command declares itself for a parameter."""
    declared = (one for one in get_args(hint)[1:] if isinstance(one, OptionInfo))
    # Within ``Annotated``, typer takes an option's first flag for its default.
    names = (name for one in declared for name in (one.default, *(one.param_decls or ())))
    return tuple(name for name in names if isinstance(name, str) and name.startswith("-"))


def _parameter(one: Option, command_flags: Collection[str]) -> tuple[inspect.Parameter, bool]:
    """An option's parameter, and whether it is advanced; the command declares some flags itself."""
    kind, flags = one.kinds[0], [flag for flag in one.flags if flag not in command_flags]
    if str in one.kinds:
        kind = str
    if kind is bool and one.off:
        flags = [f"--{one.name}/--{one.off}"]
    panel = f"{one.panel}, in detail" if one.advanced else one.panel
    declared: dict[str, Any] = {
        "help": one.help,
        "envvar": one.variable,
        "rich_help_panel": panel,
        "show_default": one.default not in (None, (), False),
    }
    if one.choices:
        declared["metavar"] = f"<{'|'.join(one.choices)}>"
    typed: Any = list[str] if kind is tuple else kind
    default = None if kind is tuple else one.default
    annotation = Annotated[typed | None, typer.Option(*flags, **declared)]
    parameter = inspect.Parameter(
        one.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
    return parameter, one.advanced


def _made(record: type[Settings], values: Mapping[str, Any]) -> Settings:
    """The record, checked; a list is empty where nothing was given."""
    by_field = {one.field: one for one in options(record)}
    given = {
        name: tuple(value or ()) if by_field[name].kinds == (tuple,) else value
        for name, value in values.items()
    }
    made = record(**given)
    check(made)
    return made

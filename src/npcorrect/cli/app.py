"""What every command shares: the application, its errors, exit codes and settings file."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Draw a picture, find what went wrong, and correct it with a negative prompt.",
)

EXIT_ACCEPTED, EXIT_FAILURE, EXIT_INPUT, EXIT_NOT_ACCEPTED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def fail(message: str, code: int) -> NoReturn:
    """Say one sentence on standard error and leave."""
    typer.echo(f"npc: {message}", err=True)
    raise typer.Exit(code)


def reporting_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn deliberate errors and Ctrl-C into one sentence and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        from npcorrect.errors import InputError, NpcError

        try:
            return command(*args, **kwargs)
        except InputError as error:
            fail(str(error), EXIT_INPUT)
        except NpcError as error:
            fail(str(error), EXIT_FAILURE)
        except KeyboardInterrupt:
            fail("interrupted; what was drawn so far is kept.", EXIT_INTERRUPTED)

    return wrapped


@app.callback()
@reporting_errors
def settings(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="NPC_CONFIG",
            help="TOML file with a table per command, and [vlm] for keys, prices and retry_policy; "
            "flags and environment go before it.",
        ),
    ] = None,
) -> None:
    """Read the settings file, so that its values become the commands' defaults."""
    from platformdirs import user_config_path

    path = config or user_config_path("npcorrect") / "config.toml"
    if config is None and not path.is_file():
        return
    context.default_map, context.obj = read_settings(path, context)


def read_settings(path: Path, context: typer.Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings file as the defaults of each command, and its table of models, unchecked.

    Raises:
        SettingsError: the file cannot be read, or names a command or an option that does not exist.
    """
    import tomllib

    from npcorrect.errors import SettingsError

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {str(path)!r} cannot be read: {error}.") from None
    models = tables.pop("vlm", {})
    commands = getattr(context.command, "commands", {})
    for name, table in tables.items():
        if name not in commands or not isinstance(table, dict):
            known = ", ".join(f"[{command}]" for command in (*commands, "vlm"))
            raise SettingsError(f"{str(path)!r} has {name!r}; its tables are {known}.")
        _check(path, name, table, commands[name])
    return tables, models


def _check(path: Path, name: str, table: dict[str, Any], command: Any) -> None:
    """Refuse a key that is no option; a group of commands has a table for each."""
    from npcorrect.errors import SettingsError

    groups = getattr(command, "commands", {})
    options = groups or {parameter.name: None for parameter in command.params}
    for key, value in table.items():
        if key not in options:
            known = ", ".join(sorted(filter(None, options)))
            raise SettingsError(f"{str(path)!r} sets {key!r} in [{name}]; it knows {known}.")
        if groups:
            if not isinstance(value, dict):
                raise SettingsError(f"{str(path)!r} has {key!r} in [{name}]; it is a table.")
            _check(path, f"{name}.{key}", value, groups[key])


Prompt = Annotated[str, typer.Argument(help="What the picture must show.")]
Device = Annotated[str, typer.Option(envvar="NPC_DEVICE", help="cpu, cuda or mps.")]
RankerName = Annotated[
    str | None,
    typer.Option(
        "--ranker",
        envvar="NPC_RANKER",
        help="Which negative comes first: 'salient' (the default), 'requirements', 'paper', or "
        "'source', the order in which they were proposed.",
    ),
]

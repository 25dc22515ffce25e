"""What every command shares: the application, its errors, exit codes and settings file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from npcorrect.cli.metavars import App
from npcorrect.text import one_line, shown

P = ParamSpec("P")
T = TypeVar("T")

app = App(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Draw a picture, find what went wrong, and correct it with a negative prompt.\n\n"
    'Begin with: npc correct "a photo of a brown bus, a green truck, and a red skateboard" '
    "--out out/\n\n"
    "With a model of your own: npc models, then npc correct --help",
)

EXIT_ACCEPTED, EXIT_FAILURE, EXIT_INPUT, EXIT_NOT_ACCEPTED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
EXIT_STOPPED = 4
_OTHER_VARIABLES = ("NPC_VLM_KEY", "NPC_MODEL_KEY", "NPC_COMFYUI", "NPC_COMFYUI_PYTHON")
"""Environment variables that are no option: keys of servers, and what the tests of nodes run."""


def fail(message: str, code: int) -> NoReturn:
    """Print one sentence on standard error and leave with exit code ``code``.

    Raises:
        typer.Exit: always.
    """
    typer.echo(f"npc: {one_line(message, 2000)}", err=True)
    raise typer.Exit(code)


def given_path(text: object) -> Path:
    """A path as it was typed; ``""``, as an unset variable gives it, is not the current folder.

    Raises:
        typer.BadParameter: it is empty, or no path.
    """
    from npcorrect import files
    from npcorrect.errors import SettingsError

    try:
        return files.given_path(text)
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None


def path_option(*flags: str, **declared: Any) -> Any:
    """``typer.Option`` for paths, of which empty ones and NUL are refused."""
    return typer.Option(*flags, parser=given_path, metavar="<path>", **declared)


def path_argument(help_text: str) -> Any:
    """``typer.Argument`` for paths, of which empty ones and NUL are refused."""
    return typer.Argument(parser=given_path, help=help_text)


def reporting_errors(command: Callable[P, T]) -> Callable[P, T]:
    """Turn deliberate errors, missing packages and Ctrl-C into one sentence and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        from npcorrect.errors import InputError, NpcError, RunStoppedError
        from npcorrect.extras import missing, package_of

        try:
            return command(*args, **kwargs)
        except InputError as error:
            fail(str(error), EXIT_INPUT)
        except RunStoppedError as error:
            fail(str(error), EXIT_STOPPED)
        except NpcError as error:
            fail(str(error), EXIT_FAILURE)
        except ModuleNotFoundError as error:
            package = package_of(error)
            if package is None:
                raise
            fail(missing(package, "This"), EXIT_INPUT)
        except KeyboardInterrupt:
            fail("interrupted; what was drawn so far is kept.", EXIT_INTERRUPTED)

    return wrapped


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"npc {version('npcorrect')}")
        raise typer.Exit


@app.callback()
@reporting_errors
def settings(
    context: typer.Context,
    config: Annotated[
        Path | None,
        path_option(
            envvar="NPC_CONFIG",
            help="TOML file with a table per command, and [vlm] for keys, prices and retries; "
            "flags and environment variables take precedence.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Read the settings file, so that its values become the commands' defaults."""
    from platformdirs import user_config_path

    _check_variables(context.command)
    path = (config or user_config_path("npcorrect") / "config.toml").expanduser()
    if config is None and not path.is_file():
        return
    context.default_map, context.obj = read_settings(path, context.command)


def _check_variables(command: Any) -> None:
    """Refuse ``NPC_BUDGET=``, whose empty value would be taken for none, and ``NPC_BUGDET=1``.

    A name like none of this program's may be another program's; it is only spoken of.

    Raises:
        SettingsError: a variable of this program is set and empty, or misspelt.
    """
    from difflib import get_close_matches

    from npcorrect.errors import SettingsError

    known = {*_variables(command), *_OTHER_VARIABLES}
    for name, value in os.environ.items():
        if not name.startswith("NPC_"):
            continue
        if not value.strip():
            raise SettingsError(f"The environment variable {name} is empty; unset it or fill it.")
        if name in known:
            continue
        if near := get_close_matches(name, known, 3, 0.75):
            raise SettingsError(
                f"There is no environment variable {name[:60]}; did you mean {', '.join(near)}?"
            )
        typer.echo(f"npc: the environment variable {name[:60]} is not known here.", err=True)


def _variables(command: Any) -> Iterator[str]:
    """The environment variables of a command's options, and of those of its group."""
    yield from (one.envvar for one in command.params if isinstance(one.envvar, str))
    for inner in getattr(command, "commands", {}).values():
        yield from _variables(inner)


def read_settings(path: Path, command: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings file as the defaults of each command, and its table of models, unchecked.

    Keys are the flags' own names.

    Raises:
        SettingsError: the file cannot be read, or names a command or an option that does not exist.
    """
    import tomllib

    from npcorrect.errors import SettingsError
    from npcorrect.files import read_text

    try:
        tables = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The settings file {str(path)!r} cannot be read: {error}.") from None
    models = tables.pop("vlm", {})
    if not isinstance(models, dict):
        raise SettingsError(
            f"{str(path)!r} sets 'vlm' outside of a table; write it in a command's, such as "
            "[correct], or as the table [vlm] for keys, prices and retries."
        )
    return _defaults(path, "", tables, command), models


def _defaults(path: Path, name: str, table: dict[str, Any], command: Any) -> dict[str, Any]:
    """A table's values by the names of the command's parameters; groups have a table for each."""
    from npcorrect.errors import SettingsError
    from npcorrect.settings import unknown_name

    where = f"The settings file {str(path)!r}" + (f", table [{name}]" if name else "")
    commands = getattr(command, "commands", {})
    if not commands:
        return _parameters(where, table, command)
    made = {}
    for key, value in table.items():
        if key not in commands:
            raise SettingsError(unknown_name(key, [*commands, "vlm"], where))
        if not isinstance(value, dict):
            raise SettingsError(f"{where}: {key!r} is {shown(value)}; it is a table.")
        made[key] = _defaults(path, f"{name}.{key}".lstrip("."), value, commands[key])
    return made


def _parameters(where: str, table: dict[str, Any], command: Any) -> dict[str, Any]:
    """The parameters of a command that a table sets, with their values."""
    from npcorrect.settings import set_once

    made: dict[str, Any] = {}
    for key, value in table.items():
        set_once(made, *_default(where, key, value, command), key, where)
    return made


def _default(where: str, key: str, value: Any, command: Any) -> tuple[str, Any]:
    """A parameter's name, and its value as the command line would give it."""
    from npcorrect.cli.options import option_names
    from npcorrect.errors import SettingsError
    from npcorrect.settings import unknown_name

    names = option_names(command)
    flag = key.replace("_", "-")
    if flag not in names:
        raise SettingsError(unknown_name(key, list(names), where))
    parameter, on = names[flag]
    truth = parameter.is_flag
    wrong = isinstance(value, bool) != truth or isinstance(value, dict)
    if wrong or isinstance(value, list) != parameter.multiple:
        raise SettingsError(f"{where}: {key!r} is {shown(value)}; give it as its flag takes it.")
    try:
        parameter.process_value(command.context_class(command), value)
    except typer.BadParameter as error:
        raise SettingsError(f"{where}: {key!r} is {shown(value)}: {error.message}.") from None
    if truth:
        return parameter.name, value if on else not value
    return parameter.name, [*map(_expanded, value)] if isinstance(value, list) else _expanded(value)


def _expanded(value: Any) -> Any:
    """A text that begins with ``~`` as the shell would give it; paths are of several options."""
    return os.path.expanduser(value) if isinstance(value, str) else value


Prompt = Annotated[str, typer.Argument(help="What the picture must show.")]

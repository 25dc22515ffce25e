"""The command ``npc``: thin, and quick to start. Heavy imports wait until they are needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from npcorrect.types import Attempt, Result

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
            help="TOML file with a table per command; flags and environment go before it.",
        ),
    ] = None,
) -> None:
    """Read the settings file, so that its values become the commands' defaults."""
    from platformdirs import user_config_path

    path = config or user_config_path("npcorrect") / "config.toml"
    if config is None and not path.is_file():
        return
    context.default_map = read_settings(path, context)


def read_settings(path: Path, context: typer.Context) -> dict[str, Any]:
    """The settings file as the defaults of each command.

    Raises:
        SettingsError: the file cannot be read, or names a command or an option that does not exist.
    """
    import tomllib

    from npcorrect.errors import SettingsError

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {str(path)!r} cannot be read: {error}.") from None
    commands = getattr(context.command, "commands", {})
    for name, table in tables.items():
        if name not in commands or not isinstance(table, dict):
            known = ", ".join(f"[{command}]" for command in commands)
            raise SettingsError(f"{str(path)!r} has {name!r}; its tables are {known}.")
        options = {parameter.name for parameter in commands[name].params}
        for key in table:
            if key not in options:
                known = ", ".join(sorted(filter(None, options)))
                raise SettingsError(f"{str(path)!r} sets {key!r} in [{name}]; it knows {known}.")
    return tables


def window_value(text: str | None) -> int | float | None:
    """``"3"`` is a number of steps, ``"0.06"`` a share of all steps."""
    if text is None:
        return None
    from npcorrect.errors import SettingsError

    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise SettingsError(
            f"--window {text!r} is not a number; give steps (3) or a share (0.06)."
        ) from None


Prompt = Annotated[str, typer.Argument(help="What the picture must show.")]
Device = Annotated[str, typer.Option(envvar="NPC_DEVICE", help="cpu, cuda or mps.")]


@app.command()
@reporting_errors
def correct(
    prompt: Prompt,
    out: Annotated[
        Path, typer.Option(envvar="NPC_OUT", help="Folder for the pictures and result.json.")
    ] = Path("out"),
    seed: Annotated[
        int, typer.Option(envvar="NPC_SEED", min=0, help="Seed of the first draw.")
    ] = 0,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates", "-k", envvar="NPC_CANDIDATES", help="Negatives to try at most."
        ),
    ] = 5,
    steps: Annotated[
        int | None, typer.Option(envvar="NPC_STEPS", help="Denoising steps of a draw.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(envvar="NPC_SCALE", help="True classifier-free guidance scale.")
    ] = None,
    negative_scale: Annotated[
        float | None,
        typer.Option(envvar="NPC_NEGATIVE_SCALE", help="Weight of the negative (rule 'extra')."),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(envvar="NPC_RULE", help="How the negative enters: 'extra' or 'paper'."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            "-n",
            envvar="NPC_WINDOW",
            help="First steps in which the negative acts: a number, or a share such as 0.06.",
        ),
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option(
            envvar="NPC_LOOKS",
            help="How often to look at a redrawing while it emerges, to renew its negative.",
        ),
    ] = None,
    reseed: Annotated[
        bool | None,
        typer.Option(
            "--reseed/--same-seed",
            envvar="NPC_RESEED",
            help="Give each redrawing a seed of its own.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(envvar="NPC_SIZE", help="Height and width in pixels.")
    ] = None,
    batch: Annotated[int, typer.Option(envvar="NPC_BATCH", help="Candidates drawn together.")] = 1,
    model: Annotated[
        str, typer.Option(envvar="NPC_MODEL", help="The image model; 'mini' is embedded.")
    ] = "mini",
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option(envvar="NPC_DTYPE", help="float32, bfloat16 or float16.")
    ] = "float32",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result alone, as JSON.")
    ] = False,
) -> None:
    """Draw PROMPT, check the picture, and correct it.

    Exit code 0: the picture was accepted; 3: it could not be corrected; 2: bad input.

    Example: npc correct "three red circles and one blue square" --seed 7 --out out/
    """
    from npcorrect.errors import ModelError, SettingsError
    from npcorrect.loop import validate
    from npcorrect.output import file_name, prepare, save_picture, save_result, to_record
    from npcorrect.types import Request

    if model != "mini":
        raise ModelError(f"The model {model!r} is unknown; the embedded one is called 'mini'.")
    if rule not in (None, "paper", "extra"):
        raise SettingsError(f"--rule {rule!r} is unknown; use 'extra' or 'paper'.")
    request = Request(
        prompt,
        seed=seed,
        max_candidates=candidates,
        num_inference_steps=steps,
        true_cfg_scale=scale,
        negative_scale=negative_scale,
        rule=rule,  # type: ignore[arg-type]
        window=window_value(window),
        looks=looks,
        reseed=reseed,
        height=size,
        width=size,
        batch=batch,
    )
    validate(request)
    prepare(out)
    result = _run(
        request, device, dtype, as_json, lambda a: save_picture(out / file_name(a), a.generation)
    )
    save_result(out, result)
    if as_json:
        import json

        typer.echo(json.dumps(to_record(result), indent=2))
    else:
        _print_table(result, out)
    raise typer.Exit(EXIT_ACCEPTED if result.accepted else EXIT_NOT_ACCEPTED)


def _run(
    request: Any, device: str, dtype: str, quiet: bool, keep: Callable[[Attempt], None]
) -> Result:
    """One correction with a progress bar; each attempt is kept the moment it is drawn."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading the model")
        from npcorrect.loop import correct as correct_loop
        from npcorrect.loop import finish
        from npcorrect.mini.embedded import embedded
        from npcorrect.mini.vlm import embedded_roles
        from npcorrect.ranking import RequirementRanker

        model, roles = embedded(device, dtype), embedded_roles()

        def show(event: Any) -> None:
            progress.update(task, description=f"{event.stage} {event.detail}".strip())

        checklist = roles.checklister.checklist(request.prompt)
        ranker, attempts = RequirementRanker(model), []
        for attempt in correct_loop(request, model, roles, ranker, show, checklist):
            keep(attempt)
            attempts.append(attempt)
    return finish(request, checklist, attempts)


def _print_table(result: Result, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from npcorrect.output import abridged

    table = Table(title=result.request.prompt)
    for name in ("attempt", "negatives", "source", "text score", "verdict", "evaluations"):
        table.add_column(name, overflow="fold")
    words = {True: "accepted", False: "not accepted", None: "unscored"}
    for attempt in result.attempts:
        ranked = attempt.ranked
        chosen = " *" if attempt.index == result.best else ""
        score = attempt.verdict.score
        table.add_row(
            f"{attempt.index or 'original'}{chosen}",
            abridged(attempt.generation.negatives),
            ranked.candidate.source if ranked else "",
            f"{ranked.score:+.3f}" if ranked else "",
            words[attempt.verdict.accepted] + (f" ({score:.0%})" if score is not None else ""),
            str(attempt.generation.evaluations),
        )
    console = Console()
    console.print(table)
    cost = result.cost
    console.print(
        f"{cost.images} images, {cost.evaluations} denoiser evaluations, {cost.seconds:.1f} s; "
        f"* is {out / 'best.png'}, side by side in {out / 'sheet.png'}"
    )


@app.command()
@reporting_errors
def rank(
    prompt: Prompt,
    negatives: Annotated[list[str], typer.Argument(help="Negative prompts to compare.")],
    device: Device = "cpu",
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's number-and-noun rule for salient words.")
    ] = False,
) -> None:
    """Score NEGATIVES against PROMPT in text space, without drawing anything.

    Example: npc rank "three red circles" "four circles" "blue circles"
    """
    from npcorrect.mini.embedded import embedded
    from npcorrect.mini.vlm import MiniChecklister
    from npcorrect.ranking import PaperRanker, RequirementRanker
    from npcorrect.types import Candidate

    checklist = MiniChecklister().checklist(prompt)
    ranker = (PaperRanker if paper else RequirementRanker)(embedded(device))
    candidates = tuple(Candidate(negative, "targeted") for negative in negatives)
    from rich.console import Console
    from rich.table import Table

    table = Table("negative prompt", "score", "parts", title=prompt)
    for ranked in ranker.rank(checklist, candidates):
        parts = ", ".join(f"{name} {value:+.3f}" for name, value in ranked.parts)
        table.add_row(ranked.candidate.negative_prompt, f"{ranked.score:+.4f}", parts)
    Console().print(table)


@app.command()
@reporting_errors
def doctor() -> None:
    """Say what is installed, what it would run on, and whether the embedded model is whole."""
    import platform
    from importlib.metadata import version

    import torch
    from huggingface_hub.constants import HF_HUB_CACHE
    from rich.console import Console
    from rich.table import Table

    from npcorrect.mini.model import WEIGHTS, load_pipeline

    table = Table("what", "value", title="npc doctor")
    table.add_row("python", platform.python_version())
    for name in ("npcorrect", "torch", "diffusers", "transformers"):
        table.add_row(name, version(name))
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        table.add_row(
            "cuda", f"{torch.cuda.get_device_name()}, {free >> 30} of {total >> 30} GiB free"
        )
    else:
        table.add_row("cuda", "not available; runs on the CPU")
    table.add_row("cpu threads", str(torch.get_num_threads()))
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        table.add_row("memory", f"{memory:.1f} GiB")
    table.add_row("model cache", f"{HF_HUB_CACHE} (the embedded model needs none)")
    load_pipeline()
    total = sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors"))
    table.add_row("embedded model", f"mini, whole, {total / 1e6:.1f} MB")
    Console().print(table)


def main() -> None:
    """Entry point of the ``npc`` command."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()

"""``npc correct``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npcorrect.cli.app import (
    EXIT_ACCEPTED,
    EXIT_NOT_ACCEPTED,
    Prompt,
    app,
    reporting_errors,
)
from npcorrect.cli.options import takes_settings
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings

if TYPE_CHECKING:
    from npcorrect.loop import Event
    from npcorrect.records import Cost, Request
    from npcorrect.result import Result
    from npcorrect.session import SessionSettings


@app.command()
@reporting_errors
@takes_settings
def correct(
    context: typer.Context,
    prompt: Prompt,
    draw: DrawSettings,
    load: LoadSettings,
    roles: RoleSettings,
    original: Annotated[
        Path | None,
        typer.Option(
            envvar="NPC_ORIGINAL",
            help="A picture to correct in place of a first drawing.",
            rich_help_panel="Picture",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            envvar="NPC_OUT",
            help="Folder for the pictures and result.json.",
            rich_help_panel="Output",
        ),
    ] = Path("out"),
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the result alone, as JSON.", rich_help_panel="Output"),
    ] = False,
) -> None:
    """Draw PROMPT, check the picture, and correct it.

    Exit code 0: the picture was accepted; 3: it could not be corrected; 2: bad input.

    Example: npc correct "three red circles and one blue square" --seed 7 --out out/

    With a model of your own that looks: add --vlm http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct
    """
    from npcorrect.files import prepare
    from npcorrect.records import Request
    from npcorrect.result import to_record
    from npcorrect.session import SessionSettings, check
    from npcorrect.vlm.settings import read_table

    settings = SessionSettings(load=load, roles=roles, table=read_table(context.obj or {}))
    request = Request(prompt, **vars(draw))
    check(settings, request)
    out = out.expanduser()
    prepare(out)
    result = _run(settings, request, original, out, quiet=as_json)
    if as_json:
        import json

        typer.echo(json.dumps(to_record(result), indent=2))
    else:
        _print_table(result, out)
    raise typer.Exit(EXIT_ACCEPTED if result.accepted else EXIT_NOT_ACCEPTED)


def _run(
    settings: SessionSettings, request: Request, original: Path | None, out: Path, quiet: bool
) -> Result:
    """One correction with a progress bar; each attempt is written the moment it is final."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    from npcorrect.files import open_picture, save_picture
    from npcorrect.result import file_name
    from npcorrect.session import open_session

    picture = open_picture(original.expanduser()) if original else None
    console = Console(stderr=True, quiet=quiet)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading the model")

        def show(event: Event) -> None:
            progress.update(task, description=Text(progress_line(event)).plain)

        with open_session(settings) as session:
            correction = session.correct(request, show, original=picture)
            for attempt in correction:
                save_picture(out / file_name(attempt), attempt.generation)
                correction.result.save_summary(out)
    return correction.result


def progress_line(event: Event) -> str:
    """What is happening: the attempt, the stage, its step and its detail."""
    place = f"attempt {event.attempt} of {event.attempts}" if event.attempt else "original"
    step = f" {event.step}/{event.total}" if event.step else ""
    return f"{place}: {event.stage}{step} {event.detail}".strip()


def _print_table(result: Result, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from npcorrect.files import abridged

    table = Table(title=Text(result.request.prompt))
    for name in ("attempt", "negatives", "source", "text score", "verdict", "evaluations"):
        table.add_column(name, overflow="fold")
    words = {True: "accepted", False: "not accepted", None: "unscored"}
    for attempt in result.attempts:
        ranked = attempt.ranked
        chosen = " *" if attempt.index == result.best_index else ""
        score = attempt.verdict.score
        table.add_row(
            f"{attempt.index or 'original'}{chosen}",
            Text(abridged(attempt.generation.negatives)),
            ranked.candidate.source if ranked else "",
            f"{ranked.score:+.3f}" if ranked else "",
            words[attempt.verdict.accepted] + (f" ({score:.0%})" if score is not None else ""),
            str(attempt.generation.evaluations),
        )
    console = Console()
    console.print(table)
    for error in dict.fromkeys(a.verdict.error for a in result.attempts if a.verdict.error):
        console.print(f"without an answer: {error}", markup=False, style="yellow")
    console.print(
        f"{_spent(result.cost)}; * is {out / 'best.png'}, side by side in {out / 'sheet.png'}",
        markup=False,
    )


def _spent(cost: Cost) -> str:
    usage = cost.usage
    parts = [f"{cost.images} images, {cost.evaluations} denoiser evaluations"]
    if usage.calls:
        retries = f" ({usage.retries} of them retries)" if usage.retries else ""
        parts.append(f"{usage.calls} calls{retries} and {usage.tokens} tokens of models")
    if usage.money is not None:
        parts.append(f"{usage.money:.4f} by your prices")
    return ", ".join((*parts, f"{cost.seconds:.1f} s"))

"""``npc correct``: the main job, for one prompt or a file of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from npcorrect.cli.app import EXIT_ACCEPTED, EXIT_NOT_ACCEPTED, app, path_option, reporting_errors
from npcorrect.cli.options import refuse_given, takes_settings
from npcorrect.cli.worker_options import RayAddress, Threads, Workers, pool_alone
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings

if TYPE_CHECKING:
    from npcorrect.output import OutputFolder
    from npcorrect.prompts import Job
    from npcorrect.result import Result
    from npcorrect.session import SessionSettings
    from npcorrect.workers import Pool

OF_MANY = ("shard", "workers", "threads", "ray_address")
"""The options that say how many prompts are done."""


@app.command(context_settings={"allow_extra_args": True})
@reporting_errors
@takes_settings
def correct(
    context: typer.Context,
    draw: DrawSettings,
    load: LoadSettings,
    roles: RoleSettings,
    prompt: Annotated[
        str | None,
        typer.Argument(help="What the picture must show; left out with --prompts and --images."),
    ] = None,
    original: Annotated[
        Path | None,
        path_option(
            envvar="NPC_ORIGINAL",
            help="A picture to correct in place of a first drawing.",
            rich_help_panel="Picture",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        path_option(
            help="A file of prompts, or '-' for standard input: one a line, A1111's "
            "'--prompt ... --seed ...' lines, JSON lines, or a CSV table.",
            rich_help_panel="Many prompts",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        path_option(
            help="A folder of pictures to correct, by the prompt in each PNG or in --prompts.",
            rich_help_panel="Many prompts",
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            help="Which part of the prompts to do, such as 2/4.", rich_help_panel="Many prompts"
        ),
    ] = "1/1",
    workers: Workers = 1,
    threads: Threads = None,
    ray_address: RayAddress = None,
    out: Annotated[
        Path,
        path_option(
            envvar="NPC_OUT",
            help="Folder for the pictures and result.json; an interrupted correction in it is "
            "continued.",
            rich_help_panel="Output",
        ),
    ] = Path("out"),
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Remove what another correction left in the folder.",
            rich_help_panel="Output",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the result alone, as JSON.", rich_help_panel="Output"),
    ] = False,
) -> None:
    """Draw PROMPT, check the picture, and correct it.

    Exit code 0: the picture was accepted; 3: it could not be corrected; 2: bad input.

    Example: npc correct "a photo of a brown bus, a green truck, and a red skateboard" --out out/

    With a model of your own that looks: add --vlm http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct
    """
    from npcorrect.errors import SettingsError
    from npcorrect.files import open_picture
    from npcorrect.output import OutputFolder
    from npcorrect.prompts import read_jobs
    from npcorrect.records import Request
    from npcorrect.session import SessionSettings
    from npcorrect.vlm.settings import read_table

    _refuse_parts(prompt or "", context.args)
    settings = SessionSettings(load=load, roles=roles, table=read_table(context.obj or {}))
    out = out.expanduser()
    if prompts is not None or images is not None:
        if prompt is not None or original is not None:
            given = "PROMPT" if prompt is not None else "--original (NPC_ORIGINAL)"
            raise SettingsError(f"--prompts and --images name what to correct; leave {given} out.")
        jobs = read_jobs(prompts, images, draw)
        shared = pool_alone(context, workers, threads, ray_address, load, roles)
        _correct_many(settings, jobs, shard, shared, out, overwrite, as_json)
    refuse_given(context, OF_MANY, "is for many prompts; name a file of them with --prompts")
    if prompt is None:
        raise SettingsError("Give a PROMPT, or a file of them with --prompts.")
    picture = open_picture(original.expanduser()) if original else None
    folder = OutputFolder(out, Request(prompt, **vars(draw)), settings, picture)
    result = _correct_one(folder, overwrite, as_json)
    raise typer.Exit(EXIT_ACCEPTED if result.accepted else EXIT_NOT_ACCEPTED)


def _refuse_parts(first: str, others: list[str]) -> None:
    """Refuse a prompt that the shell has taken apart, for want of quotes that it knows.

    Raises:
        SettingsError: there are parts behind the first.
    """
    from npcorrect.errors import SettingsError

    if others:
        whole = " ".join([first, *others]).strip("\u201c\u201d")
        raise SettingsError(
            f"The prompt is in {1 + len(others)} parts; put all of it in straight quotes: "
            f'npc correct "{whole[:200]}".'
        )


def _correct_one(folder: OutputFolder, overwrite: bool, as_json: bool) -> Result:
    """One correction with a line of progress, and what to say of it."""
    from npcorrect.cli.show import progress, show_result
    from npcorrect.output import correct_into
    from npcorrect.result import to_record
    from npcorrect.session import check, check_device, open_session

    check(folder.settings, folder.request, folder.original)
    check_device(folder.settings.load)
    with (
        folder.claimed(overwrite) as begun,
        progress(as_json) as shown,
        open_session(folder.settings) as session,
    ):
        result = correct_into(folder, begun, session, shown.on_event)
    if as_json:
        import json

        typer.echo(json.dumps(to_record(result), indent=2))
    else:
        show_result(result, folder.path)
    return result


def _correct_many(
    settings: SessionSettings,
    jobs: tuple[Job, ...],
    part: str,
    pool: Pool | None,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> NoReturn:
    """All prompts of a file with a bar over them, and what to say of them."""
    from collections import Counter

    from npcorrect.batch import Batch, Row, shard
    from npcorrect.cli.console import PlainConsole
    from npcorrect.cli.show import progress

    batch = Batch(jobs, settings, out, overwrite)
    part_jobs = shard(jobs, part)
    with progress(as_json, len(part_jobs)) as shown:

        def on_row(_: Row) -> None:
            done = [job for job in part_jobs if job.number in batch.rows]
            shown.done(len(done), f"{counted()}, ")

        def counted() -> str:
            counts = Counter(row.outcome for row in batch.rows.values())
            return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())

        batch.run(part_jobs, shown.on_event, on_row, pool)
    if as_json:
        typer.echo((out / "results.jsonl").read_text(encoding="utf-8"), nl=False)
    else:
        text = f"{len(batch.rows)} of {len(jobs)} prompts: {counted()}; see {out / 'index.html'}"
        PlainConsole().print(text, soft_wrap=True)
    outcomes = {batch.rows[job.number].outcome for job in part_jobs}
    raise typer.Exit(EXIT_ACCEPTED if outcomes <= {"accepted", "corrected"} else EXIT_NOT_ACCEPTED)

"""``npc redraw``: the pictures of a record, drawn again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npcorrect.cli.app import (
    EXIT_ACCEPTED,
    EXIT_NOT_ACCEPTED,
    app,
    path_argument,
    path_option,
    reporting_errors,
)
from npcorrect.cli.options import Only, takes_settings
from npcorrect.settings import LoadSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from npcorrect.redraw import Recipe


@app.command()
@reporting_errors
@takes_settings
def redraw(
    context: typer.Context,
    record: Annotated[
        Path, path_argument("A result.json, its folder, or a picture of npc correct.")
    ],
    load: Annotated[LoadSettings, Only(("device", "offline", "trust_remote_code"))],
    out: Annotated[Path, path_option(help="Folder for the pictures.")] = Path("redrawn"),
) -> None:
    """Draw the pictures of RECORD again, without asking anyone, and compare them with the old ones.

    Exit code 0: they are the same, bit for bit; 3: some differ.

    Example: npc redraw out/result.json
    """
    from npcorrect.cli.console import PlainConsole
    from npcorrect.cli.show import progress
    from npcorrect.errors import OutputError
    from npcorrect.files import prepare, save_picture
    from npcorrect.redraw import read_recipe
    from npcorrect.redraw import redraw as drawn_again
    from npcorrect.result import file_name, record_path
    from npcorrect.session import SessionSettings, made_with, open_model
    from npcorrect.vlm.settings import read_table

    recipe = read_recipe(record.expanduser())
    table = read_table(context.obj or {})
    settings = SessionSettings(load=_settings(recipe, load), table=table)
    out = out.expanduser()
    if record_path(out).is_file() and out.is_dir():
        raise OutputError(f"{str(out)!r} holds a correction; choose another folder with --out.")
    prepare(out)
    console, same = PlainConsole(), True
    # A server that only the record names gets no key but one that the user's own table has for it.
    with progress(quiet=False), open_model(settings, named=False) as model:
        now = made_with(model, settings)
        for index, generation in drawn_again(recipe, model):
            save_picture(out / file_name(index), generation, now)
            differing = _differing(recipe.kept(index), generation.image)
            same = same and not differing
            console.print(f"{out / file_name(index)}: {_words(differing)}", soft_wrap=True)
    if not same and (changed := recipe.made_with.differences(now)):
        console.print(f"Since then changed: {'; '.join(changed)}.", soft_wrap=True)
    raise typer.Exit(EXIT_ACCEPTED if same else EXIT_NOT_ACCEPTED)


def _settings(recipe: Recipe, given: LoadSettings) -> LoadSettings:
    """The recorded settings at the recorded commit, where and as trusted as the user says."""
    from dataclasses import replace

    recorded = recipe.made_with
    return replace(
        recorded.load,
        revision=recorded.revision or recorded.load.revision,
        device=given.device or recorded.load.device,
        offline=given.offline or recorded.load.offline,
        trust_remote_code=given.trust_remote_code,
    )


def _differing(before: Image | None, now: Image) -> int | None:
    """How many pixels differ; None where there is nothing to compare with."""
    import numpy as np

    if before is None:
        return None
    if before.size != now.size:
        return now.width * now.height
    return int((np.asarray(before) != np.asarray(now.convert("RGB"))).any(-1).sum())


def _words(differing: int | None) -> str:
    if differing is None:
        return "drawn; there is no picture to compare it with"
    return f"{differing} pixels differ" if differing else "the same, bit for bit"

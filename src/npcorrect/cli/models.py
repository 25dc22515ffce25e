"""``npc models``: the families of image models, and what a model is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from npcorrect.cli.app import app, reporting_errors
from npcorrect.cli.metavars import App
from npcorrect.cli.options import Only, takes_settings
from npcorrect.settings import LoadSettings

if TYPE_CHECKING:
    from npcorrect.diffusion.families import FamilySpec

models = App(no_args_is_help=False)
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
@reporting_errors
def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the families of image models, with their defaults and what was verified.

    Example: npc models show black-forest-labs/FLUX.1-dev
    """
    if context.invoked_subcommand is not None:
        return
    from npcorrect.diffusion.families import FAMILIES

    if as_json:
        import json

        typer.echo(json.dumps([facts(family) for family in FAMILIES.values()], indent=2))
        return
    from rich.table import Table

    from npcorrect.cli.console import PlainConsole

    table = Table()
    for column in ("family", "rules", "steps", "scale", "size", "window", "then", "verified"):
        table.add_column(column, no_wrap=column == "family", overflow="fold")
    for family in FAMILIES.values():
        row = facts(family)
        numbers = (str(row[key]) for key in ("steps", "scale", "size"))
        words = (row[key] for key in ("window", "then", "verified"))
        table.add_row(family.name, ", ".join(row["rules"]), *numbers, *words)
    console = PlainConsole()
    console.print(table)
    console.print(
        "The first rule is the default. 'tiny' means: every contract test holds on the stock "
        "pipeline with small random weights; trained weights were tried for 'mini' only, which is "
        "embedded. Where a family is not recognised, name it with --family."
    )


@models.command()
@reporting_errors
@takes_settings
def show(
    model: Annotated[str, typer.Argument(help="A Hub id, folder, file or server, or 'mini'.")],
    load: Annotated[LoadSettings, Only(("family", "base", "revision", "variant", "offline"))],
) -> None:
    """Say what MODEL is and how it would be drawn with, without loading its weights.

    Example: npc models show stabilityai/stable-diffusion-3.5-large
    """
    from dataclasses import replace

    from rich.table import Table
    from rich.text import Text

    from npcorrect.cli.console import PlainConsole

    table = Table("what", "value", title=Text(model))
    for what, value in _described(replace(load, model=model)).items():
        table.add_row(what, Text(value))
    PlainConsole().print(table)


def _described(settings: LoadSettings) -> dict[str, str]:
    from npcorrect.cli.console import table_value
    from npcorrect.diffusion.identify import ModelFiles, identify
    from npcorrect.session import EMBEDDED, family_of
    from npcorrect.vlm.addresses import is_server

    if settings.model == EMBEDDED:
        return {"family": "mini: the embedded model", "weights": "in the package; see npc doctor"}
    if is_server(settings.model):
        server = family_of(settings)
        return {"family": server.title, "rules": "paper", "says what it can": "npc doctor --model"}
    identified = identify(settings)
    rows = {"family": f"{identified.family.name}: {identified.family.title} ({identified.note})"}
    rows |= {
        key: table_value(value)
        for key, value in facts(identified.family).items()
        if key != "family"
    }
    if identified.kind == "file":
        rows["rest from"] = (
            identified.base if identified.denoiser_only else f"{identified.base} (configuration)"
        )
        return rows
    size = ModelFiles(identified.base, settings.revision, settings.offline).weights(
        settings.variant
    )
    rows["weights"] = "not asked (offline)" if size is None else f"{size / 1e9:.1f} GB"
    return rows


def facts(family: FamilySpec) -> dict[str, Any]:
    """What the commands print of a family: its defaults and limits, by their printed names."""
    defaults = family.defaults
    first = max(1, round(defaults.num_inference_steps * 3 / 50))
    return {
        "family": family.name,
        "title": family.title,
        "pipeline": family.pipeline,
        "checkpoints": list(family.checkpoints),
        "rules": sorted(family.rules, key=lambda rule: rule != defaults.rule),
        "steps": defaults.num_inference_steps,
        "scale": defaults.true_cfg_scale,
        "nag scale": defaults.nag_scale if family.nag else None,
        "vsf scale": defaults.vsf_scale if family.vsf else None,
        "size": defaults.sizes[0],
        "tokens": defaults.max_sequence_length,
        "window": "all steps" if defaults.rule == "nag" else f"first {first}",
        "then": "prompt alone" if family.after == "alone" else "empty prompt",
        "batches": not family.single,
        "defaults from": family.source,
        "note": family.distilled,
        "verified": "tiny",
    }

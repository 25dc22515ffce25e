"""``npc models``, and the options by which every command loads an image model."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from npcorrect.cli.app import app, reporting_errors

if TYPE_CHECKING:
    from npcorrect.diffusion.families import FamilySpec
    from npcorrect.diffusion.loading import LoadOptions

ModelName = Annotated[
    str,
    typer.Option(
        envvar="NPC_MODEL",
        help="The image model: 'mini' (embedded), a Hub id, a diffusers folder, or a .safetensors "
        "file. 'npc models' lists the families.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(envvar="NPC_DEVICE", help="cuda, mps or cpu; the fastest there is if not given."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        envvar="NPC_DTYPE",
        help="float32, bfloat16 or float16; bfloat16 on cuda, float16 on mps, float32 on the CPU.",
    ),
]
Offload = Annotated[
    str,
    typer.Option(
        envvar="NPC_OFFLOAD",
        help="Keep parts in main memory until they are needed: 'none', 'model' (whole networks) "
        "or 'sequential' (single layers; smallest and slowest).",
    ),
]
VaeTiling = Annotated[
    bool, typer.Option("--vae-tiling", envvar="NPC_VAE_TILING", help="Decode pictures in tiles.")
]
Quantize = Annotated[
    str | None,
    typer.Option(
        envvar="NPC_QUANTIZE",
        help="Hold the denoiser and the text encoder in '8bit' or '4bit' (CUDA, bitsandbytes).",
    ),
]
Compiled = Annotated[
    bool, typer.Option("--compile", envvar="NPC_COMPILE", help="Compile the denoiser's blocks.")
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        help="LoRA weights: a file, folder or Hub id, with =WEIGHT behind it; may be repeated.",
    ),
]
Family = Annotated[
    str | None, typer.Option(help="The family, where it is not recognised; see 'npc models'.")
]
Base = Annotated[
    str | None,
    typer.Option(help="Hub id or folder that lends a single file what it lacks."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
Variant = Annotated[str | None, typer.Option(help="Variant of the weights, such as fp16.")]
Offline = Annotated[
    bool, typer.Option("--offline", envvar="NPC_OFFLINE", help="Use the local cache only.")
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that the model's repository brings."),
]

models = typer.Typer(no_args_is_help=False)
app.add_typer(models, name="models")


def load_options(context: typer.Context) -> LoadOptions:
    """A command's loading options, by the names that :class:`LoadOptions` has for them.

    Raises:
        SettingsError: one of them is unknown.
    """
    from npcorrect.diffusion.loading import LoadOptions
    from npcorrect.errors import SettingsError

    given = {
        f.name: context.params[f.name] for f in fields(LoadOptions) if f.name in context.params
    }
    for name, known in (
        ("offload", ("none", "model", "sequential")),
        ("quantize", ("8bit", "4bit")),
    ):
        if given.get(name) not in (None, *known):
            raise SettingsError(f"--{name} {given[name]!r} is unknown; use {', '.join(known)}.")
    given["loras"] = tuple(given.get("loras") or ())
    return LoadOptions(**given)


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
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("family", "rules", "steps", "scale", "size", "window", "then", "verified"):
        table.add_column(column, no_wrap=column == "family")
    for family in FAMILIES.values():
        row = facts(family)
        numbers = (str(row[key]) for key in ("steps", "scale", "size"))
        words = (row[key] for key in ("window", "then", "verified"))
        table.add_row(family.name, ", ".join(row["rules"]), *numbers, *words)
    console = Console()
    console.print(table)
    console.print(
        "The first rule is the default. 'tiny' means: every contract test holds on the stock "
        "pipeline with small random weights; trained weights were tried for 'mini' only, which is "
        "embedded. Where a family is not recognised, name it with --family."
    )


@models.command()
@reporting_errors
def show(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A Hub id, folder or file, or 'mini'.")],
    family: Family = None,
    base: Base = None,
    revision: Revision = None,
    variant: Variant = None,
    offline: Offline = False,
) -> None:
    """Say what MODEL is and how it would be drawn with, without loading its weights.

    Example: npc models show stabilityai/stable-diffusion-3.5-large
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("what", "value", title=escape(model))
    for what, value in _described(model, load_options(context)).items():
        table.add_row(what, escape(value))
    Console().print(table)


def _described(model: str, options: LoadOptions) -> dict[str, str]:
    from npcorrect.diffusion.identify import Source, resolve

    if model == "mini":
        return {"family": "mini: the embedded model", "weights": "in the package; see npc doctor"}
    found = resolve(model, options.family, options.base, options.revision, options.offline)
    rows = {"family": f"{found.family.name}: {found.family.title} ({found.note})"}
    rows |= {key: _plain(value) for key, value in facts(found.family).items() if key != "family"}
    if found.kind == "file":
        rows["rest from"] = found.base if found.denoiser_only else f"{found.base} (configuration)"
        return rows
    size = Source(found.base, options.revision, options.offline).weights(options.variant)
    rows["weights"] = "not asked (offline)" if size is None else f"{size / 1e9:.1f} GB"
    return rows


def facts(family: FamilySpec) -> dict[str, Any]:
    """What a user wants to know of a family."""
    own = family.defaults
    first = max(1, round(own.num_inference_steps * 3 / 50))
    return {
        "family": family.name,
        "title": family.title,
        "pipeline": family.pipeline,
        "checkpoints": list(family.checkpoints),
        "rules": sorted(family.rules, key=lambda rule: rule != own.rule),
        "steps": own.num_inference_steps,
        "scale": own.true_cfg_scale,
        "nag scale": own.nag_scale if family.nag else None,
        "size": own.sizes[0],
        "tokens": own.max_sequence_length,
        "window": "all steps" if own.rule == "nag" else f"first {first}",
        "then": "prompt alone" if family.after == "alone" else "empty prompt",
        "batches": not family.single,
        "defaults from": family.source,
        "note": family.distilled,
        "verified": "tiny",
    }


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    if value is None or value == "":
        return "none"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

"""``npc correct``: the main job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from npcorrect.cli import models, role_options
from npcorrect.cli.app import (
    EXIT_ACCEPTED,
    EXIT_NOT_ACCEPTED,
    Prompt,
    RankerName,
    app,
    reporting_errors,
)

if TYPE_CHECKING:
    from npcorrect.diffusion.base import TextEncoder
    from npcorrect.diffusion.loading import LoadOptions
    from npcorrect.ranking import Ranker
    from npcorrect.records import Attempt, Checklist, Cost, Result
    from npcorrect.vlm.roles import Checklister
    from npcorrect.vlm.settings import VLMSettings


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


@app.command()
@reporting_errors
def correct(
    context: typer.Context,
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
        float | None,
        typer.Option(envvar="NPC_SCALE", help="True classifier-free guidance scale."),
    ] = None,
    negative_scale: Annotated[
        float | None,
        typer.Option(
            envvar="NPC_NEGATIVE_SCALE", help="Weight of the negative (all rules but 'paper')."
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            envvar="NPC_RULE",
            help="How the negative enters: 'paper', 'extra', 'turns' or 'nag'; see docs/method.md.",
        ),
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
            help="How often to look at a redrawing while it emerges, to renew its negative. "
            "A verifier named with --vlm looks only if asked to: each look is asked and paid for.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            envvar="NPC_STRENGTH",
            help="Share of the steps that a redrawing takes, beginning with the noised original; "
            "1 begins with noise alone.",
        ),
    ] = None,
    rewinds: Annotated[
        int | None,
        typer.Option(
            envvar="NPC_REWINDS",
            help="How often a redrawing may begin again where its last look finds it wrong.",
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
    ranker: RankerName = None,
    batch: Annotated[
        int,
        typer.Option(
            envvar="NPC_BATCH", help="Candidates drawn together; fewer where memory runs out."
        ),
    ] = 1,
    model: models.ModelName = "mini",
    device: models.Device = None,
    dtype: models.Dtype = None,
    offload: models.Offload = "none",
    vae_tiling: models.VaeTiling = False,
    quantize: models.Quantize = None,
    compiled: models.Compiled = False,
    loras: models.Loras = None,
    family: models.Family = None,
    base: models.Base = None,
    revision: models.Revision = None,
    variant: models.Variant = None,
    offline: models.Offline = False,
    trust_remote_code: models.TrustRemoteCode = False,
    vlm: role_options.Vlm = None,
    checklister: role_options.Checklister = None,
    verifier: role_options.Verifier = None,
    captioner: role_options.Captioner = None,
    proposer: role_options.Proposer = None,
    votes: role_options.Votes = 1,
    budget: role_options.BudgetOption = None,
    cache: role_options.Cache = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result alone, as JSON.")
    ] = False,
) -> None:
    """Draw PROMPT, check the picture, and correct it.

    Exit code 0: the picture was accepted; 3: it could not be corrected; 2: bad input.

    Example: npc correct "three red circles and one blue square" --seed 7 --out out/

    With eyes of your own: add --vlm http://localhost:8000/v1#Qwen/Qwen3-VL-8B-Instruct
    """
    from npcorrect.errors import SettingsError
    from npcorrect.loop import validate
    from npcorrect.output import file_name, prepare, save_picture, save_result, to_record
    from npcorrect.ranking import ranker_maker
    from npcorrect.records import Request, Rule

    if rule not in (None, *get_args(Rule)):
        raise SettingsError(f"--rule {rule!r} is unknown; use {', '.join(get_args(Rule))}.")
    options = models.load_options(context)
    named = {
        "checklister": checklister,
        "verifier": verifier,
        "captioner": captioner,
        "proposer": proposer,
    }
    settings = role_options.vlm_settings(
        context,
        vlm,
        named,
        votes=votes,
        budget=budget,
        cache=cache,
        device=device or "cpu",
        dtype=dtype or "float32",
    )
    embedded_eyes = (verifier or vlm or "embedded") == "embedded"
    if looks is None and not embedded_eyes:
        looks = 0
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
        strength=strength,
        rewinds=rewinds,
        reseed=reseed,
        height=size,
        width=size,
        batch=batch,
    )
    validate(request)
    make_ranker = ranker_maker(ranker)
    _check_model(model, options, embedded_eyes)
    prepare(out)

    def keep(attempt: Attempt) -> None:
        save_picture(out / file_name(attempt), attempt.generation)

    result = _run(request, make_ranker, model, options, settings, as_json, keep)
    save_result(out, result)
    if as_json:
        import json

        typer.echo(json.dumps(to_record(result), indent=2))
    else:
        _print_table(result, out)
    raise typer.Exit(EXIT_ACCEPTED if result.accepted else EXIT_NOT_ACCEPTED)


def _check_model(model: str, options: LoadOptions, embedded_eyes: bool) -> None:
    """Refuse what cannot be loaded or judged, before anything is written or asked."""
    if model == "mini":
        return
    from npcorrect.diffusion.identify import resolve
    from npcorrect.errors import SettingsError

    found = resolve(model, options.family, options.base, options.revision, options.offline)
    if embedded_eyes:
        raise SettingsError(
            f"The model {model!r} is {found.family.title}, whose pictures the embedded verifier "
            "cannot read; name a vision-language model that looks at them with --vlm."
        )


class _Remembering:
    """A checklister that keeps its last checklist."""

    def __init__(self, checklister: Checklister) -> None:
        self._checklister = checklister
        self.last: Checklist | None = None

    def checklist(self, prompt: str) -> Checklist:
        self.last = self._checklister.checklist(prompt)
        return self.last


def _run(
    request: Any,
    make_ranker: Callable[[TextEncoder], Ranker],
    model: str,
    options: LoadOptions,
    settings: VLMSettings,
    quiet: bool,
    keep: Callable[[Attempt], None],
) -> Result:
    """One correction with a progress bar; each attempt is kept the moment it is drawn."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading the model")
        from npcorrect.diffusion.loading import load
        from npcorrect.loop import correct as correct_loop
        from npcorrect.loop import finish
        from npcorrect.mini.vlm import embedded_roles
        from npcorrect.records import Checklist
        from npcorrect.vlm.build import roles as open_roles

        def show(event: Any) -> None:
            progress.update(task, description=f"{event.stage} {event.detail}".strip())

        with open_roles(settings, embedded_roles() if model == "mini" else None) as roles:
            drawer = load(model, options)
            checklister = _Remembering(roles.checklister)
            roles, attempts = replace(roles, checklister=checklister), []
            ranker = make_ranker(drawer)
            for attempt in correct_loop(request, drawer, roles, ranker, show):
                keep(attempt)
                attempts.append(attempt)
    return finish(request, checklister.last or Checklist(request.prompt, ()), attempts)


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
    for error in dict.fromkeys(a.verdict.error for a in result.attempts if a.verdict.error):
        console.print(f"without an answer: {error}", markup=False, style="yellow")
    console.print(
        f"{_spent(result.cost)}; * is {out / 'best.png'}, side by side in {out / 'sheet.png'}"
    )


def _spent(cost: Cost) -> str:
    parts = [f"{cost.images} images, {cost.evaluations} denoiser evaluations"]
    if cost.tokens:
        retries = f" ({cost.retries} of them retries)" if cost.retries else ""
        parts.append(f"{cost.vlm_calls} calls{retries} and {cost.tokens} tokens of models")
    if cost.money is not None:
        parts.append(f"{cost.money:.4f} by your prices")
    return ", ".join((*parts, f"{cost.seconds:.1f} s"))

"""``npc bench``: run benchmarks, and report what they say."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from npcorrect.cli import models, role_options
from npcorrect.cli.app import app, reporting_errors

if TYPE_CHECKING:
    from npcorrect.evaluation.run.manifest import Settings, Shard
    from npcorrect.evaluation.run.runner import Executor
    from npcorrect.vlm.settings import VLMTable

bench = typer.Typer(
    no_args_is_help=True, help="Compare methods on benchmarks; see docs/benchmarks.md."
)
app.add_typer(bench, name="bench")

METHODS = "base,best-of-n,static,npc-paper,npc"
NAMES = "mini, mini-tuning, geneval++, imagine or geneval2"
Out = Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is continued.")]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="NPC_DATA", help="Folder of official files; default: where 'fetch' puts them."
    ),
]
JudgeName = Annotated[
    str | None, typer.Option("--judge", envvar="NPC_JUDGE", help="The model that judges pictures.")
]
Budget = Annotated[
    str | None,
    typer.Option(help="Stop before models take more: 0.50 (money), '200 calls', '50000 tokens'."),
]
Cache = Annotated[
    bool,
    typer.Option(help="Answer what was asked before from a file; its cost is not counted then."),
]
ReportOut = Annotated[
    Path | None, typer.Option(help="Folder for the report; default: report/ in the first run.")
]
Faults = Annotated[
    bool,
    typer.Option(
        "--upstream-faults", help="Show what the faults of upstream's scripts would make of it."
    ),
]


@bench.command()
@reporting_errors
def run(
    context: typer.Context,
    benchmark: Annotated[
        str | None, typer.Argument(help=f"{NAMES}; left out with --manifest.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Methods to compare, with commas.")] = METHODS,
    images: Annotated[int, typer.Option(help="Pictures a method is compared at, at most.")] = 6,
    seeds: Annotated[int, typer.Option(help="Seeds of each prompt.")] = 1,
    limit: Annotated[
        int | None, typer.Option(help="Prompts, spread evenly over the benchmark; default all.")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="Which part of the prompts, such as 2/4; see 'npc bench merge'.")
    ] = "1/1",
    steps: Annotated[int | None, typer.Option(help="Denoising steps of a picture.")] = None,
    size: Annotated[int | None, typer.Option(help="Height and width in pixels.")] = None,
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
    judge: JudgeName = None,
    data: Data = None,
    budget: Budget = None,
    cache: Cache = False,
    out: Out = Path("runs/bench"),
    manifest: Annotated[
        Path | None,
        typer.Option(help="Take all settings from a manifest, such as that of another run."),
    ] = None,
    official: Annotated[
        bool, typer.Option("--official", help="Also write what upstream's scripts expect.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Workers, each with the model; more than one needs Ray.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of a worker; default: OMP_NUM_THREADS, or an equal share."
        ),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, such as 'auto' or 10.0.0.1:6379.")
    ] = None,
) -> None:
    """Run METHODS on BENCHMARK; give the same command again to continue after an interruption.

    Example: npc bench run mini --methods base,best-of-n,npc --limit 28 --workers 2 --out runs/a
    """
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation.run.manifest import Settings

    if manifest is not None:
        if benchmark is not None:
            raise SettingsError("A manifest names its benchmark; leave BENCHMARK out.")
        settings = read_settings(manifest)
    elif benchmark is None:
        raise SettingsError(f"Name a benchmark: {NAMES}.")
    else:
        named = {
            "checklister": checklister,
            "verifier": verifier,
            "captioner": captioner,
            "proposer": proposer,
        }
        settings = Settings(
            benchmark,
            tuple(name.strip() for name in methods.split(",")),
            images,
            seeds,
            limit,
            shard_value(shard),
            model,
            _loading(context),
            steps,
            size,
            vlm,
            {role: name for role, name in named.items() if name},
            votes,
            judge,
            cache,
            budget,
        )
    _run(settings, out, data, _table(context), workers, threads, ray_address)
    _report([out], None, data, faults=False)
    if official:
        _export(out, data)


LOADING = (
    "device", "dtype", "offload", "vae_tiling", "quantize", "compiled", "loras", "family", "base",
    "revision", "variant", "offline", "trust_remote_code",
)  # fmt: skip
"""The options of ``run`` that say how its image model is loaded."""


def _loading(context: typer.Context) -> dict[str, Any]:
    """Those that were given. The manifest holds no others, so new ones refuse no old run."""
    defaults = {parameter.name: parameter.default for parameter in context.command.params}
    given = {name: context.params[name] for name in LOADING}
    return {name: value for name, value in given.items() if value and value != defaults[name]}


def shard_value(text: str) -> Shard:
    """``"2/4"`` is the second of four parts."""
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation.run.manifest import Shard

    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise SettingsError(f"--shard is {text!r}; give a part and their number, such as 1/4.")
    return Shard(int(number), int(of))


def read_settings(path: Path) -> Settings:
    """The settings in a manifest.

    Raises:
        SettingsError: the file cannot be read, or is no manifest.
    """
    import json

    from pydantic import TypeAdapter

    from npcorrect.errors import SettingsError
    from npcorrect.evaluation.run.manifest import Settings

    try:
        return TypeAdapter(Settings).validate_python(json.loads(path.read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{str(path)!r} is no manifest of a run ({reason}).") from None


def _table(context: typer.Context) -> VLMTable:
    from npcorrect.vlm.settings import read_table

    return read_table(context.obj or {})


def _run(
    settings: Settings,
    out: Path,
    data: Path | None,
    table: VLMTable,
    workers: int,
    threads: int | None,
    ray_address: str | None,
) -> None:
    """The run itself, with progress."""
    from functools import partial

    from npcorrect.errors import SettingsError
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.run import manifest, runner, tools
    from npcorrect.evaluation.run.progress import following
    from npcorrect.evaluation.run.store import Store

    manifest.validate(settings)
    if "rewrite" in settings.methods and not settings.vlm:
        raise SettingsError("The method 'rewrite' needs a language model; name one with --vlm.")
    if settings.budget and workers > 1:
        raise SettingsError("A budget is kept by one worker; leave out --workers or --budget.")
    source = benchmarks.find(settings.benchmark, data)
    tools.check_judge(settings, source)
    samples = manifest.samples(settings, source)
    made = manifest.manifest(settings, source)
    each = threads or int(os.environ.get("OMP_NUM_THREADS") or max(1, _cores() // workers))
    load = partial(tools.load, settings, data, table, each)
    with following(settings.methods, len(samples), settings.images) as on_record:
        executor = _executor(workers, each, settings.device, ray_address)
        runner.run(Store(out), made, samples, load, executor, on_record)


def _executor(workers: int, threads: int, device: str | None, ray_address: str | None) -> Executor:
    from npcorrect.evaluation.run import runner

    if workers == 1 and ray_address is None:
        return runner.in_process
    return runner.RayExecutor(workers, threads, _on_gpus(device), ray_address)


def _on_gpus(device: str | None) -> bool:
    """Whether workers take an accelerator each: as asked for, or where there is one."""
    if device is None:
        import torch

        return torch.cuda.is_available()
    return device.startswith("cuda")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@bench.command()
@reporting_errors
def score(
    context: typer.Context,
    benchmark: Annotated[str, typer.Argument(help=NAMES)],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures, named as upstream does, or JSON of paths by prompt."
        ),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Result file of upstream's own script, to read back.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the report calls the pictures; default: their folder.")
    ] = None,
    judge: JudgeName = None,
    data: Data = None,
    budget: Budget = None,
    cache: Cache = True,
    out: Out = Path("runs/score"),
) -> None:
    """Judge pictures that were made elsewhere, or read back what upstream's script said of them.

    Example: npc bench score geneval++ --images DIR --judge openai:gpt-4.1-2025-04-14 --out runs/b
    """
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.run import exchange, tools
    from npcorrect.evaluation.run.manifest import Settings, manifest
    from npcorrect.evaluation.run.progress import following
    from npcorrect.evaluation.run.records import METHOD_NAME
    from npcorrect.evaluation.run.store import Store

    place = images or results
    if place is None:
        raise SettingsError("Give pictures with --images, or a result file with --results.")
    source = benchmarks.find(benchmark, data)
    samples = exchange.official_samples(source)
    method = name or place.resolve().stem
    if not re.fullmatch(METHOD_NAME, method):
        raise SettingsError(f"{method!r} cannot name pictures; give letters and digits as --name.")
    settings = Settings(
        benchmark, (method,), images=0, model="", judge=judge, cache=cache, budget=budget
    )
    if results is None:
        tools.check_judge(settings, source)
    made = manifest(settings, source)
    pictures = exchange.find_pictures(source, samples, images) if images else {}
    with following((method,), len(samples), 1) as on_record:
        if results is not None:
            scores = exchange.official(source).read_results(results)
            exchange.keep_scores(Store(out), made, samples, scores, pictures, on_record)
        else:
            with tools.judging(settings, source, _table(context)) as opened:
                exchange.score_pictures(Store(out), made, samples, pictures, opened, on_record)
    _report([out], None, data, faults=False)


@bench.command()
@reporting_errors
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs to report together.")],
    out: ReportOut = None,
    data: Data = None,
    faults: Faults = False,
    official: Annotated[
        bool, typer.Option("--official", help="Also write what upstream's scripts expect.")
    ] = False,
) -> None:
    """Report RUNS: a table here, and report.html, .md, .csv and .json in a folder.

    Example: npc bench report runs/a runs/b --out report/
    """
    _report(runs, out, data, faults)
    if official:
        for one in runs:
            _export(one, data)


def _report(runs: list[Path], out: Path | None, data: Path | None, faults: bool) -> None:
    from npcorrect.evaluation.report import files
    from npcorrect.evaluation.report.summary import summarise

    made = summarise(runs, faults=faults)
    folder = out or runs[0] / "report"
    files.write(made, folder)
    files.show(made)
    typer.echo(f"The whole report is in {folder}.")


def _export(one: Path, data: Path | None) -> None:
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.run import exchange
    from npcorrect.evaluation.run.store import Store

    store = Store(one)
    source = benchmarks.find(store.manifest().settings.benchmark, data)
    for folder in exchange.export(store, source, one / "official"):
        typer.echo(f"For upstream's script: {folder}")


@bench.command()
@reporting_errors
def merge(
    runs: Annotated[list[Path], typer.Argument(help="Folders of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder for the whole run.")],
) -> None:
    """Put shards together; 'npc bench run' without --shard then does what is still missing.

    Example: npc bench merge runs/part-1 runs/part-2 --out runs/whole
    """
    from npcorrect.evaluation.run import exchange
    from npcorrect.evaluation.run.store import Store

    exchange.merge([Store(one) for one in runs], out)
    typer.echo(f"{len(Store(out).records())} records are in {out}.")


@bench.command()
@reporting_errors
def fetch(
    benchmarks: Annotated[
        list[str] | None, typer.Argument(help="geneval++, imagine, geneval2; default all.")
    ] = None,
    data: Data = None,
) -> None:
    """Bring official files from their upstream into the cache, and verify them.

    Example: npc bench fetch geneval++ imagine
    """
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation.benchmarks import official, official_files

    for name in benchmarks or official_files.FILES:
        if name not in official_files.FILES:
            raise SettingsError(
                f"The benchmark {name!r} has no official file; use "
                f"{', '.join(official_files.FILES)}."
            )
        for file in official_files.FILES[name]:
            path = official.fetch(file, data or official.cache())
            typer.echo(f"{path} ({file.licence})")

"""``npc bench``: run benchmarks, and report what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npcorrect.cli.app import app, reporting_errors

if TYPE_CHECKING:
    from npcorrect.evaluation.manifest import Settings, Shard
    from npcorrect.evaluation.runner import Crew

bench = typer.Typer(no_args_is_help=True, help="Compare methods on a benchmark.")
app.add_typer(bench, name="bench")

METHODS = "base,best-of-n,static,npc-paper,npc"
Out = Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is continued.")]


def shard_value(text: str) -> Shard:
    """``"2/4"`` is the second of four parts."""
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation.manifest import Shard

    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise SettingsError(f"--shard is {text!r}; give a part and their number, such as 1/4.")
    return Shard(int(number), int(of))


@bench.command()
@reporting_errors
def run(
    benchmark: Annotated[
        str | None, typer.Argument(help="mini or mini-tuning; may be left out with --manifest.")
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
    model: Annotated[str, typer.Option(help="The image model; 'mini' is embedded.")] = "mini",
    device: Annotated[str, typer.Option(envvar="NPC_DEVICE", help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    out: Out = Path("runs/bench"),
    manifest: Annotated[
        Path | None,
        typer.Option(help="Take all settings from a manifest, such as that of another run."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Workers, each with the model; more than one needs Ray.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processor threads of a worker; default OMP_NUM_THREADS, or an equal share."
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
    from npcorrect.evaluation.manifest import Settings

    if manifest is not None:
        if benchmark is not None:
            raise SettingsError("A manifest names its benchmark; leave BENCHMARK out.")
        settings = read_settings(manifest)
    elif benchmark is None:
        raise SettingsError("Name a benchmark, for example 'npc bench run mini'.")
    else:
        settings = Settings(
            benchmark,
            tuple(name.strip() for name in methods.split(",")),
            images,
            seeds,
            limit,
            shard_value(shard),
            model,
            device,
            dtype,
        )
    _run(settings, out, workers, threads, ray_address)
    report([out])


def read_settings(path: Path) -> Settings:
    """The settings in a manifest.

    Raises:
        SettingsError: the file cannot be read, or is no manifest.
    """
    import json

    from pydantic import TypeAdapter

    from npcorrect.errors import SettingsError
    from npcorrect.evaluation.manifest import Settings

    try:
        return TypeAdapter(Settings).validate_python(json.loads(path.read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{str(path)!r} is no manifest of a run ({reason}).") from None


def _run(
    settings: Settings, out: Path, workers: int, threads: int | None, ray_address: str | None
) -> None:
    """The run itself, with progress."""
    from functools import partial

    from npcorrect.evaluation import manifest, runner
    from npcorrect.evaluation.progress import following
    from npcorrect.evaluation.store import Store
    from npcorrect.evaluation.tools import benchmark, load

    manifest.validate(settings)
    source = benchmark(settings.benchmark)
    samples = manifest.samples(settings, source)
    made = manifest.manifest(settings, source)
    each = threads or int(os.environ.get("OMP_NUM_THREADS") or max(1, _cores() // workers))
    with following(settings.methods, len(samples)) as on_record:
        crew = _crew(workers, each, settings.device, ray_address)
        runner.run(Store(out), made, samples, partial(load, settings, each), crew, on_record)


def _crew(workers: int, threads: int, device: str, ray_address: str | None) -> Crew:
    from npcorrect.evaluation import runner

    if workers == 1 and ray_address is None:
        return runner.in_process
    gpus = 1 if device.startswith("cuda") else 0
    return runner.RayCrew(workers, threads, gpus, ray_address)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@bench.command()
@reporting_errors
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs to report together.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; default: report/ in the first run.")
    ] = None,
) -> None:
    """Report RUNS: a table here, and report.html, .md, .csv and .json in a folder.

    Example: npc bench report runs/a runs/b --out report/
    """
    from npcorrect.evaluation import files
    from npcorrect.evaluation.report import summarise

    made = summarise(runs)
    folder = out or runs[0] / "report"
    files.write(made, folder)
    files.show(made)
    typer.echo(f"The whole report is in {folder}.")

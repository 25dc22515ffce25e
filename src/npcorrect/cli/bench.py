"""``npc bench run``: methods side by side on a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npcorrect.cli.app import path_option, reporting_errors
from npcorrect.cli.bench_options import (
    NAMES,
    Data,
    JudgeName,
    Official,
    Out,
    RepeatJudge,
    Wording,
    bench,
    export,
    require_report,
    show_report,
    table,
)
from npcorrect.cli.options import Only, takes_settings
from npcorrect.cli.worker_options import RayAddress, Threads, Workers, pool, threads_each
from npcorrect.settings import DrawSettings, LoadSettings, RoleSettings, read_shard

if TYPE_CHECKING:
    from npcorrect.evaluation.benchmarks.base import Benchmark
    from npcorrect.evaluation.run.manifest import RunSettings
    from npcorrect.vlm.settings import VLMTable

OF_A_RUN = (
    "steps", "scale", "size", "height", "width", "looks", "fresh", "strength", "rewinds", "rule",
    "negative_prompt", "negative_scale", "negative", "ranker", "batch",
)  # fmt: skip
"""The options of every picture of a run; seeds and candidates are the methods'."""
METHODS = "base,best-of-n,static,npc-paper,npc"

Methods = Annotated[str, typer.Option(help="Methods to compare, with commas; also my.py:NAME.")]
Limit = Annotated[
    int | None, typer.Option(help="Prompts, spread evenly over the benchmark; default all.")
]
ShardText = Annotated[
    str, typer.Option(help="Which part of the prompts, such as 2/4; see 'npc bench merge'.")
]
FromManifest = Annotated[
    Path | None,
    path_option(
        help="Take all settings from a manifest, such as that of another run. Keys go to no server "
        "that it names unless --vlm or the settings file does too."
    ),
]

BESIDE_A_MANIFEST = {
    "manifest", "benchmark", "shard", "vlm", "trust_remote_code", "data", "out", "official",
    "workers", "threads", "ray_address",
}  # fmt: skip
"""What may be said beside a manifest: where and by whom its run is done, and a part of it."""


@bench.command()
@reporting_errors
@takes_settings
def run(
    context: typer.Context,
    draw: Annotated[DrawSettings, Only(OF_A_RUN)],
    load: LoadSettings,
    roles: RoleSettings,
    benchmark: Annotated[
        str | None, typer.Argument(help=f"{NAMES}; left out with --manifest.")
    ] = None,
    methods: Methods = METHODS,
    images: Annotated[int, typer.Option(help="Pictures a method is compared at, at most.")] = 6,
    seeds: Annotated[int, typer.Option(help="Seeds of each prompt.")] = 1,
    limit: Limit = None,
    shard: ShardText = "1/1",
    judge: JudgeName = None,
    repeat_judge: RepeatJudge = 1,
    wording: Wording = "default",
    data: Data = None,
    out: Out = Path("runs/bench"),
    manifest: FromManifest = None,
    official: Official = False,
    workers: Workers = 1,
    threads: Threads = None,
    ray_address: RayAddress = None,
) -> None:
    """Run METHODS on BENCHMARK; give the same command again to continue after an interruption.

    Answers are taken from the file of answers only where --cache is given: their cost would not be
    counted.

    Example: npc bench run mini --methods base,best-of-n,npc --limit 28 --workers 2 --out runs/a
    """
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.run import tools
    from npcorrect.evaluation.run.manifest import RunSettings, Shard

    servers = table(context)
    if manifest is not None:
        if benchmark is not None:
            raise SettingsError("A manifest names its benchmark; leave BENCHMARK out.")
        _refuse_beside_a_manifest(context)
        settings = read_settings(manifest, load.trust_remote_code)
        if _given(context, "shard"):
            settings = replace(settings, shard=Shard(*read_shard(shard)))
        servers = servers.model_copy(update={"key_for": roles.vlm or ""})
    elif benchmark is None:
        raise SettingsError(f"Name a benchmark: {', '.join(benchmarks.BENCHMARKS)}.")
    else:
        names = tuple(name.strip() for name in methods.split(","))
        asked = context.get_parameter_source("cache")
        if asked is not None and asked.name == "DEFAULT":
            roles = replace(roles, cache=False)
        settings = RunSettings(
            benchmark, names, images, seeds, limit, Shard(*read_shard(shard)), draw, load, roles,
            judge, repeat_judge, wording,
        )  # fmt: skip
    source = benchmarks.find(settings.benchmark, data, settings.wording)
    settings = tools.with_embedded_judge(settings, source)
    _run(settings, source, out, data, servers, workers, threads, ray_address)
    show_report([out], source=source)
    if official:
        export(out, source)


def _given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_beside_a_manifest(context: typer.Context) -> None:
    """Raises SettingsError where an option says again what the manifest says."""
    from npcorrect.errors import SettingsError

    said = [name for name in context.params if _given(context, name)]
    if twice := [name for name in said if name not in BESIDE_A_MANIFEST]:
        flag = twice[0].replace("_", "-")
        raise SettingsError(f"A manifest has all settings; leave --{flag} out, or change the file.")


def read_settings(path: Path, trusts: bool = False) -> RunSettings:
    """The settings in a manifest, which may come from anyone.

    ``trusts`` says whether the user trusts the code of the model that it names.

    Raises:
        SettingsError: the file cannot be read, is no manifest, or names code to run.
    """
    import json

    from pydantic import TypeAdapter

    from npcorrect.errors import SettingsError
    from npcorrect.evaluation import plugins
    from npcorrect.evaluation.run.manifest import RunSettings
    from npcorrect.vlm.addresses import is_server

    try:
        content = json.loads(path.read_bytes())
        settings = TypeAdapter(RunSettings).validate_python(content["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"{str(path)!r} is no manifest of a run ({reason}).") from None
    names = (settings.benchmark, *settings.methods, settings.judge or "")
    code = [name for name in names if plugins.in_file(name)]
    if code:
        raise SettingsError(
            f"The manifest {str(path)!r} names code, {code[0]!r}, which is only run where the "
            "command names it; give its settings as options."
        )
    if is_server(settings.load.model):
        raise SettingsError(
            f"The manifest {str(path)!r} names a server that draws, {settings.load.model!r}, which "
            "is only asked where the command names it; give its settings as options."
        )
    return replace(settings, load=replace(settings.load, trust_remote_code=trusts))


def _run(
    settings: RunSettings,
    source: Benchmark,
    out: Path,
    data: Path | None,
    table: VLMTable,
    count: int,
    threads: int | None,
    ray_address: str | None,
) -> None:
    """The run itself, with progress."""
    from functools import partial

    from npcorrect.evaluation import plugins
    from npcorrect.evaluation.run import manifest, runner, tools
    from npcorrect.evaluation.run.progress import following
    from npcorrect.evaluation.run.store import Store
    from npcorrect.session import check_device

    require_report()
    workers = pool(count, threads, ray_address, settings.load, settings.roles)
    tools.check(settings, source, table)
    if workers is None:
        check_device(settings.load)
    samples = manifest.samples(settings, source)
    made = manifest.manifest(settings, source, tools.weights(settings, table))
    load = partial(tools.load, settings, data, table, threads_each(count, threads))
    methods = [plugins.label(name) for name in settings.methods]
    open_judge = partial(tools.judging, settings, source, table)
    with following(methods, len(samples), settings.images) as on_record:
        executor = runner.RayExecutor(**vars(workers)) if workers else runner.in_process
        runner.run(Store(out), made, samples, load, executor, on_record, open_judge)

"""``npc bench`` on what is there already: score, judge, report, merge, and fetch."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from npcorrect.cli.app import path_argument, path_option, reporting_errors
from npcorrect.cli.bench_options import (
    NAMES,
    BenchmarkName,
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
    source_of,
    table,
)
from npcorrect.cli.options import Only, takes_settings
from npcorrect.settings import RoleSettings

Pictures = Annotated[
    Path | None,
    path_option(help="Folder of pictures, named as upstream does, or JSON of paths by prompt."),
]
Results = Annotated[
    Path | None, path_option(help="Result file of upstream's own script, to read back.")
]
JudgeSettings = Annotated[RoleSettings, Only(("budget", "cache"))]
PicturesName = Annotated[
    str | None, typer.Option(help="What the report calls the pictures; default: their folder.")
]


@bench.command()
@reporting_errors
@takes_settings
def score(
    context: typer.Context,
    benchmark: Annotated[str, typer.Argument(help=f"{NAMES}.")],
    roles: JudgeSettings,
    images: Pictures = None,
    results: Results = None,
    name: PicturesName = None,
    judge: JudgeName = None,
    repeat_judge: RepeatJudge = 1,
    wording: Wording = "default",
    data: Data = None,
    out: Out = Path("runs/score"),
) -> None:
    """Judge pictures that were made elsewhere, or read back what upstream's script said of them.

    Example: npc bench score geneval++ --images DIR --judge openai:gpt-4.1-2025-04-14 --out runs/b
    """
    from npcorrect.errors import SettingsError
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.run import exchange, tools
    from npcorrect.evaluation.run.manifest import RunSettings, manifest
    from npcorrect.evaluation.run.progress import following
    from npcorrect.evaluation.run.records import METHOD_NAME
    from npcorrect.evaluation.run.store import Store

    require_report()
    place = images or results
    if place is None:
        raise SettingsError("Give pictures with --images, or a result file with --results.")
    source = benchmarks.find(benchmark, data, wording)
    samples = exchange.official_samples(source)
    method = name or place.resolve().stem
    if not re.fullmatch(METHOD_NAME, method):
        raise SettingsError(f"{method!r} cannot name pictures; give letters and digits as --name.")
    settings = RunSettings(
        benchmark,
        (method,),
        images=0,
        roles=roles,
        judge=judge,
        repeat_judge=repeat_judge,
        wording=wording,
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
            with tools.judging(settings, source, table(context)) as opened:
                exchange.score_pictures(Store(out), made, samples, pictures, opened, on_record)
    show_report([out], source=source)


@bench.command("judge")
@reporting_errors
@takes_settings
def second_judge(
    context: typer.Context,
    run: Annotated[Path, path_argument("Folder of a run.")],
    judge: Annotated[
        str, typer.Option(envvar="NPC_JUDGE", help="The second judge: a model, or my.py:NAME.")
    ],
    roles: JudgeSettings,
    benchmark: BenchmarkName = None,
    data: Data = None,
) -> None:
    """Let a second judge score the pictures of RUN; the report then tells how far both agree.

    Example: npc bench judge runs/a --judge openai:gpt-4.1-2025-04-14
    """
    from npcorrect.evaluation import plugins
    from npcorrect.evaluation.run import manifest, runner, tools
    from npcorrect.evaluation.run.progress import following
    from npcorrect.evaluation.run.store import Store

    require_report()
    store = Store(run)
    settings = store.manifest().settings
    source = source_of(store.manifest(), benchmark, data)
    asked = replace(settings, judge=judge, repeat_judge=1, roles=roles)
    tools.check_judge(asked, source)
    samples = manifest.samples(settings, source)
    methods = [plugins.label(name) for name in settings.methods]
    with (
        following(methods, len(samples), max(settings.images, 1)) as on_record,
        tools.judging(asked, source, table(context)) as opened,
    ):
        runner.second_judge(store, samples, opened, plugins.label(judge), on_record)
    show_report([run], source=source)


@bench.command()
@reporting_errors
def report(
    runs: Annotated[list[Path], path_argument("Folders of runs to report together.")],
    out: Annotated[
        Path | None, path_option(help="Folder for the report; default: report/ in the first run.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The method that the others are compared with.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Report the scores of this second judge; see 'npc bench judge'."),
    ] = None,
    difficulty: Annotated[
        Path | None,
        path_option(
            help="Also report hard, middle and easy prompts each by themselves, by the share of "
            "right pictures in this run of the method 'base' with many seeds."
        ),
    ] = None,
    benchmark: BenchmarkName = None,
    data: Data = None,
    faults: Annotated[
        bool,
        typer.Option(
            "--upstream-faults",
            help="Show what the faults of upstream's scripts would make of it.",
        ),
    ] = False,
    official: Official = False,
) -> None:
    """Report RUNS: a table here, and report.html, .md, .csv and .json in a folder.

    Example: npc bench report runs/a runs/b --against npc --out report/

    By difficulty: npc bench run mini --methods base --images 1 --seeds 16 --out runs/plain, then
    npc bench report runs/a --difficulty runs/plain
    """
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.run.store import Store

    source = benchmarks.find(benchmark, data) if benchmark else None
    show_report(
        runs, out, faults=faults, against=against, judge=judge, source=source, difficulty=difficulty
    )
    if official:
        for one in runs:
            export(one, source_of(Store(one).manifest(), benchmark, data))


@bench.command()
@reporting_errors
def merge(
    runs: Annotated[list[Path], path_argument("Folders of the shards.")],
    out: Annotated[Path, path_option(help="Folder for the whole run.")],
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
        list[str] | None, typer.Argument(help="Names of benchmarks; default all.")
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

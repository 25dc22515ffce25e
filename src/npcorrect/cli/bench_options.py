"""What the commands of ``npc bench`` share: their group, their options, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from npcorrect.cli.app import app, path_option
from npcorrect.cli.metavars import App

if TYPE_CHECKING:
    from npcorrect.evaluation.benchmarks.base import Benchmark
    from npcorrect.evaluation.run.manifest import Manifest
    from npcorrect.vlm.settings import VLMTable

bench = App(no_args_is_help=True, help="Compare methods on benchmarks, and report what they say.")
app.add_typer(bench, name="bench")

NAMES = "A benchmark (see the documentation), a .txt, .csv or .jsonl file of prompts, or my.py:NAME"
Data = Annotated[
    Path | None,
    path_option(
        envvar="NPC_DATA", help="Folder of official files; default: where 'fetch' puts them."
    ),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        "--judge",
        envvar="NPC_JUDGE",
        help="The model that judges pictures, my.py:NAME, or 'none' (geneval).",
    ),
]
RepeatJudge = Annotated[
    int, typer.Option(min=1, max=100, help="How often each picture is judged; the first counts.")
]
Wording = Annotated[
    Literal["default", "upstream"],
    typer.Option(help="In whose words the judge is asked (geneval++, imagine)."),
]
BenchmarkName = Annotated[
    str | None,
    typer.Option(
        "--benchmark", help="The runs' benchmark where it is one of your own: my.py:NAME."
    ),
]
Out = Annotated[Path, path_option(help="Folder of the run; an unfinished one is continued.")]
Official = Annotated[
    bool, typer.Option("--official", help="Also write what upstream's scripts expect.")
]


def table(context: typer.Context) -> VLMTable:
    """Keys, prices and retries from the settings file."""
    from npcorrect.vlm.settings import read_table

    return read_table(context.obj or {})


def source_of(one: Manifest, name: str | None, data: Path | None) -> Benchmark:
    """The benchmark of a run, or that which the user names for it.

    Raises:
        SettingsError: the run names code, which is not loaded, or there is no such benchmark.
    """
    from npcorrect.evaluation import benchmarks
    from npcorrect.evaluation.report import columns

    if name is None:
        columns.source_of(one.settings.benchmark)
    return benchmarks.find(name or one.settings.benchmark, data, one.settings.wording)


def require_report() -> None:
    """Refuse to draw or judge what no report could be made of.

    Raises:
        SettingsError: a package that the report needs is not installed.
    """
    from npcorrect.extras import require

    for package in ("matplotlib", "scipy"):
        require(package, "npc bench")


def show_report(
    runs: list[Path],
    out: Path | None = None,
    *,
    faults: bool = False,
    against: str | None = None,
    judge: str | None = None,
    source: Benchmark | None = None,
    difficulty: Path | None = None,
) -> None:
    """Write the report, and its summary on the terminal."""
    from npcorrect.cli.console import PlainConsole
    from npcorrect.evaluation import plugins
    from npcorrect.evaluation.report import files
    from npcorrect.evaluation.report.summary import summarise

    label = plugins.label(judge) if judge else None
    made = summarise(
        runs, faults=faults, source=source, against=against, judge=label, difficulty=difficulty
    )
    folder = out or runs[0] / "report"
    files.write(made, folder)
    files.show(made, PlainConsole())
    typer.echo(f"The whole report is in {folder}.")


def export(one: Path, source: Benchmark) -> None:
    """Write what upstream's scripts expect of a run."""
    from npcorrect.evaluation.run import exchange
    from npcorrect.evaluation.run.store import Store

    for folder in exchange.export(Store(one), source, one / "official"):
        typer.echo(f"For upstream's script: {folder}")

"""The report as files, and as a table on the terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npcorrect.evaluation.report import page, tables
from npcorrect.evaluation.report.difficulty import Difficulty
from npcorrect.evaluation.report.metrics import KEEPS
from npcorrect.evaluation.report.summary import Report, Stratum
from npcorrect.evaluation.report.text import interval, kept, official
from npcorrect.files import prepare, write_text

if TYPE_CHECKING:
    from rich.console import Console


def write(report: Report, folder: Path) -> None:
    """Write all forms of the report.

    Raises:
        OutputError: the folder cannot be written.
    """
    prepare(folder)
    texts = {
        "report.html": page.html(report, folder),
        "report.md": page.markdown(report),
        "report.json": json.dumps(figures(report), indent=2, allow_nan=False) + "\n",
        "report.csv": tables.samples(report),
        "parts.csv": tables.parts(report),
        "summary.csv": tables.summary(report),
        "summary.tex": tables.latex(report),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def figures(report: Report) -> dict[str, Any]:
    """Every figure as JSON values, without the records."""
    return {
        "schema_version": 2,
        "benchmark": report.benchmark.name,
        "judge": report.judges,
        "images": report.images,
        "plain_evaluations": report.plain,
        "warnings": report.warnings,
        "judging": asdict(report.judging),
        "manifests": {name: asdict(one) for name, one in report.manifests.items()},
        "methods": [asdict(row) for row in report.rows],
        "comparisons": [asdict(versus) for versus in report.versus],
        "agreements": [asdict(row) for row in report.agreements],
        "repeatabilities": [asdict(row) for row in report.repeatabilities],
        "difficulty": report.difficulty and _difficulty(report.difficulty),
        "strata": [_stratum(one) for one in report.strata],
    }


def _difficulty(one: Difficulty) -> dict[str, Any]:
    prompts = {prompt: {"level": e.level, **asdict(e)} for prompt, e in one.prompts.items()}
    return {**asdict(one), "prompts": prompts}


def _stratum(one: Stratum) -> dict[str, Any]:
    return {
        "level": one.level,
        "prompts": len(one.prompts),
        "ease": one.ease,
        "methods": [asdict(row) for row in one.rows],
        "comparisons": [asdict(versus) for versus in one.versus],
    }


def show(report: Report, console: Console) -> None:
    """The summary as a table on the terminal, the official figure first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for warning in report.warnings:
        console.print(Text(warning, style="bold red"))
    scale = report.benchmark.scale
    main = report.rows[0].official[0].name
    title = Text(f"{report.benchmark.name}, at {report.most}")
    judged = Text(f"Judge: {', '.join(report.judges)}")
    table = Table(title=title, caption=judged, box=box.SIMPLE, pad_edge=False)
    for name in ("method", main, "n", "unscored", "evaluations", "VLM calls", "seconds"):
        whole = name in ("method", main, "evaluations")
        table.add_column(Text(name), no_wrap=whole, overflow="fold")
    for row in report.rows:
        cost = row.final.cost
        cells = (
            row.label,
            official(row.official[0], scale),
            str(row.official[0].n),
            f"{row.unscored} of {row.samples}",
            report.evaluations(row),
            f"{cost.calls:.1f}",
            f"{cost.seconds:.1f}",
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    for row in report.rows:
        for figure in row.official[1:]:
            fault = f" (upstream's script {figure.fault})" if figure.fault else ""
            line = f"{row.label}, {figure.name}: {official(figure, scale)}, n = {figure.n}{fault}"
            console.print(Text(line))
    for row in report.rows:
        if row.kept:
            most = f"right and kept (at least {100 * KEEPS:.0f} %): {kept(row.kept_most)}"
            told = f"{row.label}, kept: {kept(row.kept)}, {most}, n = {row.kept.n} corrected"
            console.print(Text(told))
    for stratum in report.strata:
        prompts = f"{stratum.level}, {len(stratum.prompts)} prompts"
        for row in stratum.rows:
            score = row.final.score
            told = f"{row.label}: {interval(score, scale)}, n = {score.n if score else 0}"
            console.print(Text(f"{prompts}, {told}"))
    for agreement in report.agreements:
        if not agreement.tag:
            kappa = "not defined" if agreement.kappa is None else f"{agreement.kappa:.3f}"
            told = f"same score for {100 * agreement.same:.1f} % of {agreement.n} pictures"
            about = f"{agreement.run}, further judge {agreement.second}"
            console.print(Text(f"{about}: {told}, Cohen's kappa {kappa}"))

"""The report as files: Markdown, CSV, JSON and one HTML page; and as a table on the terminal."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from npcorrect.evaluation.report import page
from npcorrect.evaluation.report.summary import Report
from npcorrect.evaluation.report.text import interval, number
from npcorrect.evaluation.run.records import Record
from npcorrect.files import prepare


def write(report: Report, folder: Path) -> None:
    """Write all forms of the report.

    Raises:
        OutputError: the folder cannot be written.
    """
    prepare(folder)
    texts = {
        "html": page.html(report),
        "md": page.markdown(report),
        "csv": table(report),
        "json": json.dumps(figures(report), indent=2) + "\n",
    }
    for ending, text in texts.items():
        (folder / f"report.{ending}").write_text(text, encoding="utf-8", newline="")


def figures(report: Report) -> dict[str, Any]:
    """Every figure as JSON values, without the records."""
    return {
        "schema_version": 1,
        "benchmark": report.benchmark.name,
        "images": report.images,
        "plain_evaluations": report.plain,
        "warnings": report.warnings,
        "judging": asdict(report.judging),
        "manifests": {name: asdict(one) for name, one in report.manifests.items()},
        "methods": [asdict(row) for row in report.rows],
        "comparisons": [asdict(versus) for versus in report.versus],
    }


def table(report: Report) -> str:
    """One line for each method and sample, as CSV."""
    lines = [
        {"method": column.label, **_line(record, record.after(report.images))}
        for column in report.columns
        for record in column.records
    ]
    text = StringIO()
    rows = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(lines)
    return text.getvalue()


def _line(record: Record, place: int) -> dict[str, Any]:
    """What a method would hand over after a step, and what it took."""
    step, score = record.steps[place], record.score(place)
    chosen, cost = record.steps[step.chosen], asdict(step.cost)
    return {
        "sample": record.key.sample,
        "repeat": record.key.repeat,
        "tag": record.tag,
        "prompt": record.prompt,
        "seed": record.seed,
        "score": "" if score.value is None else f"{score.value:g}",
        "reason": score.reason,
        "accepted": {True: "yes", False: "no", None: "unscored"}[chosen.accepted],
        "chosen": step.chosen,
        "picture": chosen.image,
        "negatives": "; ".join(chosen.negatives),
        **cost,
        "seconds": f"{step.cost.seconds:.3f}",
    }


def show(report: Report) -> None:
    """The summary as a table on the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for warning in report.warnings:
        console.print(warning, style="bold red")
    scale = report.benchmark.scale
    table = Table(title=f"{report.benchmark.name}, at {report.images} images", box=box.SIMPLE)
    right = "right" if scale == 1 else "score"
    for name in ("method", "n", right, "unscored", "NFE", "VLM calls", "seconds"):
        table.add_column(name, no_wrap=name in ("method", right), overflow="fold")
    for row in report.rows:
        cost = row.final.cost
        table.add_row(
            row.label,
            str(row.samples),
            interval(row.final.score, scale),
            str(row.unscored),
            f"{cost.evaluations:.0f}",
            f"{cost.vlm_calls:.1f}",
            f"{cost.seconds:.1f}",
        )
    console.print(table)
    for row in report.rows if len(report.rows[0].official) > 1 else ():
        for figure in row.official:
            fault = f" (upstream's script {figure.fault})" if figure.fault else ""
            console.print(f"{row.label}, {figure.name}: {number(figure.value, scale)}{fault}")

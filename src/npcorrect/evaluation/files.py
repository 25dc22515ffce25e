"""The report as files: Markdown, CSV, JSON and one HTML page; and as a table on the terminal."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from npcorrect.evaluation import page
from npcorrect.evaluation.report import Report
from npcorrect.evaluation.wording import compared, interval, number
from npcorrect.output import prepare


def write(report: Report, folder: Path) -> None:
    """Write all forms of the report.

    Raises:
        OutputError: the folder cannot be written.
    """
    prepare(folder)
    (folder / "report.html").write_text(page.render(report), encoding="utf-8")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.csv").write_text(table(report), encoding="utf-8", newline="")
    (folder / "report.json").write_text(
        json.dumps(figures(report), indent=2) + "\n", encoding="utf-8"
    )


def figures(report: Report) -> dict[str, Any]:
    """Every figure as JSON values, without the records."""
    return {
        "schema_version": 1,
        "benchmark": report.benchmark.name,
        "images": report.images,
        "plain_evaluations": report.plain,
        "warnings": report.warnings,
        "manifests": {name: asdict(one) for name, one in report.manifests.items()},
        "methods": [asdict(row) for row in report.rows],
        "comparisons": [asdict(versus) for versus in report.versus],
    }


def table(report: Report) -> str:
    """One line for each method and sample, as CSV."""
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        [
            "method",
            "sample",
            "repeat",
            "tag",
            "prompt",
            "seed",
            "score",
            "reason",
            "accepted",
            "chosen",
            "picture",
            "negatives",
            "images",
            "evaluations",
            "vlm_calls",
            "tokens",
            "seconds",
        ]
    )
    for column in report.columns:
        for record in column.records:
            step = record.steps[record.after(report.images)]
            chosen, score = record.steps[step.chosen], record.score(record.after(report.images))
            cost = step.cost
            rows.writerow(
                [
                    column.label,
                    record.key.sample,
                    record.key.repeat,
                    record.tag,
                    record.prompt,
                    record.seed,
                    "" if score.value is None else f"{score.value:g}",
                    score.reason,
                    {True: "yes", False: "no", None: "unscored"}[chosen.accepted],
                    step.chosen,
                    chosen.image,
                    "; ".join(chosen.negatives),
                    cost.images,
                    cost.evaluations,
                    cost.vlm_calls,
                    cost.tokens,
                    f"{cost.seconds:.3f}",
                ]
            )
    return text.getvalue()


def markdown(report: Report) -> str:
    """The figures as a document."""
    lines = [f"# {report.benchmark.name}", ""]
    lines += [f"**{warning}**\n" for warning in report.warnings]
    scale = report.benchmark.scale
    lines += _table(
        ["method", "samples", f"at {report.images} images", "official figure", "unscored",
         "evaluations", "VLM calls", "tokens", "seconds"],
        [
            [f"`{row.label}`", row.samples, interval(row.final.score, scale),
             number(row.official[0].value, scale), row.unscored,
             f"{row.final.cost.evaluations:.0f}", f"{row.final.cost.vlm_calls:.1f}",
             f"{row.final.cost.tokens:.0f}", f"{row.final.cost.seconds:.1f}"]
            for row in report.rows
        ],
    )  # fmt: skip
    lines += ["", "## Equal images", ""]
    lines += _table(
        ["images, at most", *(f"`{row.label}`" for row in report.rows)],
        [
            [points[0].limit, *(interval(point.score, scale) for point in points)]
            for points in zip(*(row.images for row in report.rows), strict=True)
        ],
    )
    lines += ["", "## Equal denoiser evaluations", ""]
    lines += _table(
        ["evaluations, at most", *(f"`{row.label}`" for row in report.rows)],
        [
            [points[0].limit, *(interval(point.score, scale) for point in points)]
            for points in zip(*(row.evaluations for row in report.rows), strict=True)
        ],
    )
    for versus in report.versus:
        lines += ["", f"## `{versus.first}` against `{versus.second}`", ""]
        lines += _table(
            ["at most", f"`{versus.first}` alone", f"`{versus.second}` alone", "p", "difference"],
            [
                [f"{limit} {unit}", *compared(one, scale)]
                for unit, curve in (("images", versus.images), ("evaluations", versus.evaluations))
                for limit, one in curve
            ],
        )  # fmt: skip
    lines += ["", f"## By tag, at {report.images} images", ""]
    tags = list(dict.fromkeys(tag for row in report.rows for tag in row.tags))
    lines += _table(
        ["tag", *(f"`{row.label}`" for row in report.rows)],
        [[tag, *(interval(row.tags.get(tag), scale) for row in report.rows)] for tag in tags],
    )
    lines += ["", NOTE]
    return "\n".join(lines) + "\n"


NOTE = (
    "Brackets are 95 % intervals: Wilson's for shares; for other means and for differences the "
    "bootstrap over prompts. Unscored pictures are left out. Costs are means over samples."
)


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    if not rows:
        return ["Nothing was counted."]
    return [f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *rows)]


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

"""The report as Markdown, and as one HTML page that opens from disk and loads nothing by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from npcorrect.evaluation.report.cards import page_data
from npcorrect.evaluation.report.charts import charts
from npcorrect.evaluation.report.columns import Column
from npcorrect.evaluation.report.difficulty import BOUNDS
from npcorrect.evaluation.report.metrics import KEEPS
from npcorrect.evaluation.report.summary import Report
from npcorrect.evaluation.report.text import compared, inert, interval, kept, number, official
from npcorrect.evaluation.run.kept import BLOCKS

COLORS = {
    "base": "#6b7280",
    "best-of-n": "#0072b2",
    "static": "#cc79a7",
    "npc-paper": "#d55e00",
    "npc": "#00856a",
    "npc-oracle": "#8a6d00",
    "rewrite": "#56b4e9",
}
"""Of the methods; the colour-blind can tell them apart."""
OTHER_COLORS = ("#7c3aed", "#1c2430", "#a3123f", "#4d7c0f", "#b45309", "#0e7490")
"""Of other pictures, and of a method's further runs, in turn."""


def html(report: Report, folder: Path) -> str:
    """The whole page, as it stands in a folder.

    The pictures that are handed over are in the page; full-sized ones, and all other attempts, are
    loaded from the runs' folders when they are asked for.
    """
    colors = _colors(report.columns)
    return _render(
        "report.html.j2",
        report,
        colors=colors,
        charts=charts(report, colors),
        share=lambda value: 100 * value / report.benchmark.scale,
        data=page_data(report, colors, folder),
    )


def markdown(report: Report) -> str:
    """The report as a Markdown document: every figure of the page, and no pictures."""
    return _render("report.md.j2", report)


def _render(template: str, report: Report, **more: Any) -> str:
    scale = report.benchmark.scale
    return (
        _environment()
        .get_template(template)
        .render(
            report=report,
            interval=lambda estimate: interval(estimate, scale),
            official=lambda figure: official(figure, scale),
            number=lambda value: number(value, scale),
            percent=lambda share: number(share, 1.0),
            kept=kept,
            bounds=BOUNDS,
            keeps=f"{100 * KEEPS:.0f} %",
            blocks=BLOCKS**2,
            compared=lambda comparison: compared(comparison, scale),
            **more,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("npcorrect.evaluation.report", "."),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inert"] = inert
    return environment


def _colors(columns: Sequence[Column]) -> dict[str, str]:
    free, others, colors = dict(COLORS), cycle(OTHER_COLORS), {}
    for column in columns:
        colors[column.label] = free.pop(column.method, "") or next(others)
    return colors

"""The report as Markdown, and as one HTML page that opens from disk and loads nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO, StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from npcorrect.evaluation.report.metrics import Estimate, Point
from npcorrect.evaluation.report.summary import OURS, Column, Report
from npcorrect.evaluation.report.text import interval, number
from npcorrect.evaluation.run.records import Record
from npcorrect.evaluation.run.store import Store

THUMBNAIL = 256
"""Longest side of a picture in the page; larger ones are reduced."""
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
_VERDICTS = {True: "accepted", False: "rejected", None: "no verdict"}


@dataclass
class _Pictures:
    """The page's pictures, each once, however many methods handed it over."""

    uris: list[str] = field(default_factory=list)
    _places: dict[Path, int] = field(default_factory=dict)

    def place(self, path: Path) -> int:
        """The place of a picture among the page's."""
        if path not in self._places:
            self._places[path] = len(self.uris)
            self.uris.append(_data_uri(path))
        return self._places[path]


def html(report: Report) -> str:
    """The whole page."""
    colors = _colors(report.columns)
    pictures = _Pictures()
    cards = _cards(report, pictures)
    return _render(
        "report.html.j2",
        report,
        colors=colors,
        charts=_charts(report, colors),
        share=lambda value: 100 * value / report.benchmark.scale,
        data={
            "cards": cards,
            "pictures": pictures.uris,
            "methods": [{"label": c.label, "color": colors[c.label]} for c in report.columns],
            "ours": _place(report.columns, OURS, len(report.columns) - 1),
            "base": _place(report.columns, "base", 0),
            "binary": report.binary,
        },
    )


def markdown(report: Report) -> str:
    """All figures as a document."""
    return _render("report.md.j2", report)


def _render(template: str, report: Report, **more: Any) -> str:
    environment = Environment(
        loader=PackageLoader("npcorrect.evaluation.report", "."),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(
        report=report,
        tags=list(dict.fromkeys(tag for row in report.rows for tag in row.tags)),
        interval=lambda estimate: interval(estimate, report.benchmark.scale),
        number=lambda value: number(value, report.benchmark.scale),
        **more,
    )


def _colors(columns: Sequence[Column]) -> dict[str, str]:
    free, others, colors = dict(COLORS), cycle(OTHER_COLORS), {}
    for column in columns:
        colors[column.label] = free.pop(column.method, "") or next(others)
    return colors


def _place(columns: Sequence[Column], method: str, otherwise: int) -> int:
    return next((i for i, c in enumerate(columns) if c.method == method), otherwise)


def _cards(report: Report, pictures: _Pictures) -> list[dict[str, Any]]:
    """For each prompt and seed, what every method handed over."""
    cards: dict[tuple[int, int], dict[str, Any]] = {}
    for place, column in enumerate(report.columns):
        store = Store(column.run)
        for record in column.records:
            about = {"tag": record.tag, "prompt": record.prompt, "number": record.key.sample}
            card = cards.setdefault(
                (record.key.repeat, record.key.sample),
                about | {"seed": record.seed, "shown": [None] * len(report.columns)},
            )
            card["shown"][place] = _shown(record, report.images, store, pictures)
    return [cards[key] for key in sorted(cards)]


def _shown(record: Record, images: int, store: Store, pictures: _Pictures) -> dict[str, Any]:
    place = record.after(images)
    chosen, score = record.steps[record.steps[place].chosen], record.score(place)
    return {
        "picture": pictures.place(store.picture(chosen.image)) if chosen.image else None,
        "value": score.value,
        "reason": score.reason,
        "raw": score.raw if score.value is None else "",
        "verdict": _VERDICTS[chosen.accepted],
        "failed": chosen.failed or ([chosen.error] if chosen.error else []),
        "negatives": chosen.negatives,
        "source": chosen.source,
        "place": record.steps[place].chosen + 1,
        "images": record.steps[place].cost.images,
        "evaluations": record.steps[place].cost.evaluations,
    }


def _data_uri(path: Path) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = BytesIO()
    small.save(file, format="WEBP", quality=85)
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"


def _charts(report: Report, colors: dict[str, str]) -> list[dict[str, str]]:
    """Score against each kind of cost, as SVG."""
    images = {row.label: [(float(p.limit), p) for p in row.images] for row in report.rows}
    charts = [("images, at most", images)]
    if report.plain:
        within = {row.label: [(float(p.limit), p) for p in row.evaluations] for row in report.rows}
        calls = {row.label: [(p.cost.vlm_calls, p) for p in row.images] for row in report.rows}
        charts.append(("denoiser evaluations, at most", within))
        charts.append(("VLM calls, on average", calls))
    scale = report.benchmark.scale
    return [
        {"title": title, "svg": _chart(title, curves, colors, scale)} for title, curves in charts
    ]


def _chart(
    title: str, curves: dict[str, list[tuple[float, Point]]], colors: dict[str, str], scale: float
) -> str:
    """One chart with 95 % bands; the same figures give the same text."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    factor = 100 if scale == 1 else 1
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 11}):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.subplots()
        for label, curve in curves.items():
            known = [(x, p.score) for x, p in curve if p.score is not None]
            known.sort(key=lambda pair: pair[0])
            x = [at for at, _ in known]
            scores: list[Estimate] = [score for _, score in known]
            low, high = ([factor * getattr(s, end) for s in scores] for end in ("low", "high"))
            mean = [factor * score.mean for score in scores]
            axes.fill_between(x, low, high, color=colors[label], alpha=0.13, linewidth=0)
            axes.plot(x, mean, color=colors[label], marker="o", markersize=3.5)
        axes.set_xlabel(title)
        axes.set_ylabel("right, %" if scale == 1 else "score")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_ylim(0, 1.02 * factor * scale)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]

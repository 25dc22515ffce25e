"""Score against each kind of cost, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO

from npcorrect.evaluation.report.metrics import Estimate, MeanCost, Point
from npcorrect.evaluation.report.summary import Report, Row

Curve = list[tuple[float, Point]]
_COSTS: Mapping[str, Callable[[MeanCost], float | None]] = {
    "VLM calls, on average": lambda cost: cost.calls,
    "readings without a model, on average": lambda cost: cost.readings,
    "tokens, on average": lambda cost: cost.tokens,
    "seconds, on average": lambda cost: cost.seconds,
    "money, on average": lambda cost: cost.money,
}
"""What a method takes on average, at each number of images."""


def charts(report: Report, colors: Mapping[str, str]) -> list[dict[str, str]]:
    """The title and the drawing of each chart; costs that nothing takes are left out.

    None where every method has one picture that was made elsewhere.
    """
    if report.images == 1 and not report.plain:
        return []
    made = {"images, at most": {row.label: _at_limits(row.images) for row in report.rows}}
    if report.plain:
        title = "denoiser evaluations, at most"
        made[title] = {row.label: _at_limits(row.evaluations) for row in report.rows}
    for title, read in _COSTS.items():
        curves = {row.label: _at_costs(row, read) for row in report.rows}
        if any(x for curve in curves.values() for x, _ in curve):
            made[title] = curves
    scale = report.benchmark.scale
    return [
        {"title": title, "svg": _chart(title, curves, colors, scale)}
        for title, curves in made.items()
    ]


def _at_limits(points: tuple[Point, ...]) -> Curve:
    return [(float(point.limit), point) for point in points]


def _at_costs(row: Row, read: Callable[[MeanCost], float | None]) -> Curve:
    return [(read(point.cost) or 0.0, point) for point in row.images]


def _chart(title: str, curves: Mapping[str, Curve], colors: Mapping[str, str], scale: float) -> str:
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
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=title.endswith("at most")))
        axes.set_ylim(0, 1.02 * factor * scale)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]

"""Figures as a reader sees them."""

from __future__ import annotations

import re

from npcorrect.evaluation.report.metrics import Comparison, Estimate, Official
from npcorrect.text import one_line


def interval(estimate: Estimate | None, scale: float) -> str:
    """``72.0 % [68.1, 75.5]``, or plain figures on another scale than 0 to 1."""
    if estimate is None:
        return "unscored"
    return _bracketed(estimate.mean, estimate.low, estimate.high, scale)


def official(figure: Official, scale: float) -> str:
    """The same of a benchmark's own figure."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "unscored"
    return _bracketed(figure.value, figure.low, figure.high, scale)


def kept(estimate: Estimate | None) -> str:
    """How much the corrections keep; empty where nothing is known of any."""
    return interval(estimate, 1.0) if estimate else ""


def number(value: float | None, scale: float, unit: str = " %") -> str:
    """A score: in per cent where the scale ends at 1."""
    if value is None:
        return ""
    return f"{100 * value:.1f}{unit}" if scale == 1 else f"{value:.3f}"


def compared(one: Comparison, scale: float) -> list[str]:
    """The shared samples, how often each method alone is better, the difference of the means, and
    the p-value, plain and after Holm's correction."""
    low, high = (number(end, scale, "") for end in (one.difference.low, one.difference.high))
    mean = number(one.difference.mean, scale, "")
    sign = "+" if one.difference.mean > 0 else ""
    return [
        str(one.difference.n),
        interval(one.first, scale),
        interval(one.second, scale),
        f"{sign}{mean} [{low}, {high}]",
        f"{one.p:.2g}",
        f"{one.holm:.2g}",
        str(one.first_better),
        str(one.second_better),
    ]


def inert(name: str) -> str:
    """A name as Markdown shows it, in a table too: on one line, its marks written out."""
    return re.sub(r"[\\`*_\[\]<>|&~#$]", r"\\\g<0>", one_line(name))


def _bracketed(value: float, low: float, high: float, scale: float) -> str:
    ends = ", ".join(number(end, scale, unit="") for end in (low, high))
    return f"{number(value, scale)} [{ends}]"

"""Figures as a reader sees them."""

from __future__ import annotations

from npcorrect.evaluation.report.metrics import Comparison, Estimate


def interval(estimate: Estimate | None, scale: float) -> str:
    """``72.0 % [68.1, 75.5]``, or plain figures on another scale than 0 to 1."""
    if estimate is None:
        return "unscored"
    low, high = (number(end, scale, unit="") for end in (estimate.low, estimate.high))
    return f"{number(estimate.mean, scale)} [{low}, {high}]"


def number(value: float | None, scale: float, unit: str = " %") -> str:
    """A score: in per cent where the scale ends at 1."""
    if value is None:
        return ""
    return f"{100 * value:.1f}{unit}" if scale == 1 else f"{value:.3f}"


def compared(one: Comparison, scale: float) -> list[str]:
    """How often each method alone is better, the p-value, and the difference of the means."""
    low, high = (number(end, scale, "") for end in (one.difference.low, one.difference.high))
    mean = number(one.difference.mean, scale, "")
    sign = "+" if one.difference.mean > 0 else ""
    return [
        str(one.first_better),
        str(one.second_better),
        f"{one.p:.2g}",
        f"{sign}{mean} [{low}, {high}]",
    ]

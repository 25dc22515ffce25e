"""Pictures of attention. Colours are Okabe and Ito's, and *cividis*: both readable by the
colour-blind; lines differ in their dashes too. Each function returns a figure, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t as student

from npcorrect.analysis import measures
from npcorrect.analysis.compare import AttentionSample, Condition, Terms
from npcorrect.files import replacing

COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 2)), (0, (1, 1)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
HEAT = "cividis"
DIFFERENCE = "PuOr"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "npcorrect",
}


@dataclass(frozen=True)
class CurvePanel:
    """Curves under a title: by the name of each, its values for every seed and step, ``(N, S)``."""

    title: str
    curves: Mapping[str, NDArray[np.float64]]


def curves_figure(
    panels: Sequence[CurvePanel], title: str, window: tuple[int, int] = (0, 0)
) -> Figure:
    """Panels side by side: means as lines, 95 % intervals of the mean (Student's t) as bands.

    The grey span has the steps from ``window[0]`` up to before ``window[1]``: negatives act there.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.4 * len(panels), 3.6), layout="constrained")
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for place, (label, curves_NS) in enumerate(panel.curves.items()):
                _band(axes, curves_NS, place, label)
            total = curves_NS.shape[1]
            if 0 < window[1] - window[0] < total:
                first, last = (step - 0.5 for step in window)
                axes.axvspan(first, last, color="#888888", alpha=0.15, linewidth=0)
            axes.set_xlabel("step")
            axes.set_title(panel.title, fontsize=9)
            axes.set_xlim(-0.5, total - 0.5)
        figure.suptitle(title)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure


def series_figure(samples: Sequence[AttentionSample], terms: Terms, title: str) -> Figure:
    """Ratio and fraction against the step, and the fraction's change against the first condition.

    Changes are taken seed by seed. Where every word is salient, the score stands for both.
    """
    by, words = _by_condition(samples), terms.words
    name, measure = measures.comparable(words)
    values = {c.label: _curves(seen, measure, words) for c, seen in by.items()}
    first, reference = next(iter(values.items()))
    changes = {label: curves_NS - reference for label, curves_NS in values.items()}
    panels = [
        CurvePanel(f"{name} of salient words", values),
        CurvePanel(f"change of the {name}\nagainst {first}", changes),
    ]
    if words.background:
        ratios = {c.label: _curves(seen, measures.ratio, words) for c, seen in by.items()}
        panels.insert(0, CurvePanel("ratio: salient / other words", ratios))
    acting = [s for s in samples if s.generation.drawing.negative_prompt is not None]
    window = acting[0].generation.drawing.window if acting else (0, 0)
    return curves_figure(
        panels, _title(title, samples, f"salient: {', '.join(terms.places)}"), window
    )


def maps_figure(sample: AttentionSample, terms: Terms, steps: Sequence[int]) -> Figure:
    """The picture, and below it where each term is attended to, at some steps.

    A term has one colour scale for all steps, in attention probability.
    """
    image = np.asarray(sample.generation.image)
    height, width = image.shape[:2]
    maps_SWYX = sample.attention.maps(height, width)[list(steps)].numpy()
    rows, columns = len(terms.places), len(steps) + 1
    with rc_context(_STYLE):
        figure = Figure(figsize=(1.5 * columns + 0.9, 1.5 * rows + 0.7), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for term, line, maps_SYX in zip(terms.places, grid, maps_SWYX.swapaxes(0, 1), strict=True):
            line[0].imshow(image)
            line[0].set_ylabel(term, rotation=0, ha="right", va="center", weight="bold")
            for axes, map_YX in zip(line[1:], maps_SYX, strict=True):
                extent = (0, width, height, 0)
                limits = {"vmin": maps_SYX.min(), "vmax": maps_SYX.max()}
                drawn = axes.imshow(map_YX, cmap=HEAT, extent=extent, **limits)
            figure.colorbar(drawn, ax=list(line), shrink=0.85, pad=0.01)
        for name, axes in zip(("picture", *(f"step {s}" for s in steps)), grid[0], strict=True):
            axes.set_title(name)
        for axes in grid.flat:
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
        what = f"{sample.condition.label}, seed {sample.generation.drawing.seed}"
        figure.suptitle(f"“{sample.generation.drawing.prompt}”\n{what}")
    return figure


def blocks_figure(samples: Sequence[AttentionSample], terms: Terms, title: str) -> Figure:
    """The fraction of salient words, blocks against steps, mean over seeds.

    The first condition as it is, the others as changes against it, seed by seed. Where every word
    is salient, the score stands for the fraction.
    """
    name, measure = measures.comparable(terms.words)
    by = {
        condition: np.stack([_by_block(sample, measure, terms.words) for sample in seen])
        for condition, seen in _by_condition(samples).items()
    }
    reference = next(iter(by.values()))
    changes = [(fractions - reference).mean(axis=0) for fractions in by.values()][1:]
    limit = max((abs(change).max() for change in changes), default=0.0) or 1e-6
    blocks = [_short(name) for name in samples[0].attention.blocks]
    with rc_context(_STYLE):
        size = (3.2 * len(by) + 1.4, 0.22 * len(blocks) + 1.7)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(by), sharey=True, squeeze=False)[0]
        first = panels[0].imshow(reference.mean(axis=0), cmap=HEAT, aspect="auto")
        panels[0].set_title(next(iter(by)).label, wrap=True)
        figure.colorbar(first, ax=panels[0], label=name)
        for axes, condition, change in zip(panels[1:], list(by)[1:], changes, strict=True):
            drawn = axes.imshow(change, cmap=DIFFERENCE, aspect="auto", vmin=-limit, vmax=limit)
            axes.set_title(condition.label, wrap=True)
        if changes:
            figure.colorbar(drawn, ax=list(panels[1:]), label="change")
        for axes in panels:
            axes.set_xlabel("step")
        panels[0].set_yticks(range(len(blocks)), blocks)
        figure.suptitle(_title(title, samples, f"{name} of salient words by block"))
    return figure


def save(figure: Figure, stem: Path) -> None:
    """Write a figure to ``stem.png`` and ``stem.svg``, in place of files that are there.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    kinds: dict[str, dict[str, Any]] = {"png": {"dpi": 160}, "svg": {"metadata": {"Date": None}}}
    for kind, more in kinds.items():
        with rc_context(_STYLE), replacing(stem.with_suffix(f".{kind}")) as file:
            # A layout can leave a colour bar's numbers, or a long title, beyond the edge.
            figure.savefig(file, format=kind, bbox_inches="tight", **more)


def chosen_steps(total: int, at_most: int = 5) -> tuple[int, ...]:
    """Steps to show: the first, the last, and some evenly between."""
    return tuple(sorted({round(step) for step in np.linspace(0, total - 1, at_most)}))


def _by_condition(samples: Sequence[AttentionSample]) -> dict[Condition, list[AttentionSample]]:
    by: dict[Condition, list[AttentionSample]] = {}
    for sample in samples:
        by.setdefault(sample.condition, []).append(sample)
    return by


def _curves(
    samples: Sequence[AttentionSample], measure: measures.Measure, words: measures.Words
) -> NDArray[np.float64]:
    """A measure of each seed at each step, ``(seeds, S)``."""
    series = [measure(measures.over_blocks(s.attention.text_SBT), words) for s in samples]
    return np.stack([series_S.double().numpy() for series_S in series])


def _by_block(
    sample: AttentionSample, measure: measures.Measure, words: measures.Words
) -> NDArray[np.float64]:
    """A measure by block and step, ``(B, S)``."""
    return measure(sample.attention.text_SBT, words).double().numpy().T


def _band(axes: Axes, curves: NDArray[np.float64], place: int, label: str) -> None:
    color, dashes = COLORS[place % len(COLORS)], DASHES[place % len(DASHES)]
    mean, seeds = curves.mean(axis=0), len(curves)
    steps = np.arange(len(mean))
    axes.plot(steps, mean, color=color, linestyle=dashes, linewidth=1.6, label=label)
    if seeds > 1:
        half = student.ppf(0.975, seeds - 1) * curves.std(axis=0, ddof=1) / seeds**0.5
        axes.fill_between(steps, mean - half, mean + half, color=color, alpha=0.15, linewidth=0)


def _title(title: str, samples: Sequence[AttentionSample], what: str) -> str:
    seeds = len({sample.generation.drawing.seed for sample in samples})
    drawn = samples[-1].generation.drawing
    start, stop = drawn.window
    number = "1 seed" if seeds == 1 else f"{seeds} seeds"
    return f"“{title}”\n{what}; {number}, rule {drawn.rule}, window {start}..{stop}"


def _short(block: str) -> str:
    """``single_transformer_blocks.3.attn`` as ``single block 3``."""
    words = block.rpartition(".")[0].replace("transformer_blocks", "block").replace("_", " ")
    return words.replace(".", " ")

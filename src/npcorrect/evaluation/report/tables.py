"""The report as CSV, for every sample and for every method, and as LaTeX."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from typing import Any

from npcorrect.evaluation.report.metrics import Comparison, Estimate
from npcorrect.evaluation.report.summary import Figures, Report, Row
from npcorrect.evaluation.report.text import official
from npcorrect.evaluation.run.records import Record

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def samples(report: Report) -> str:
    """One line for each method and sample, as CSV.

    Parts of the score that every scored picture has, such as Imagine-Bench's three, are columns,
    and so is the difficulty, where it was measured, with the plain pictures that it rests on.
    """
    names = _shared_parts(report)
    lines = [
        {
            "method": column.label,
            **_line(record, record.after(report.images), names),
            **_difficulty(report, record),
        }
        for column in report.columns
        for record in column.records
    ]
    return _csv(lines)


def parts(report: Report) -> str:
    """One line for each part of each score, such as GenEval 2's questions, as CSV."""
    lines = [
        {
            "method": column.label,
            "sample": record.key.sample,
            "repeat": record.key.repeat,
            "tag": record.tag,
            "part": name,
            "value": f"{value:.6g}",
        }
        for column in report.columns
        for record in column.records
        for name, value in record.score(record.after(report.images)).parts
    ]
    return _csv(lines, ("method", "sample", "repeat", "tag", "part", "value"))


def summary(report: Report) -> str:
    """One line for each method: the official figures, the score and the costs, as CSV.

    Where the difficulty was measured, it is a column: first all prompts, then those of each level.
    """
    if not report.strata:
        return _csv(_methods(report))
    named = {"all": report, **{stratum.level: stratum for stratum in report.strata}}
    return _csv(
        [{"difficulty": name} | line for name, some in named.items() for line in _methods(some)]
    )


def _methods(figures: Figures) -> list[dict[str, Any]]:
    main = [line for line in figures.lines if line.main and line.unit == "images"]
    compared = {line.second: line.comparison for line in main}
    return [
        {**_summary(row), **_compared(figures, compared.get(row.label))} for row in figures.rows
    ]


def _compared(figures: Figures, comparison: Comparison | None) -> dict[str, Any]:
    return {
        "against": figures.versus[0].first if comparison else "",
        "pairs": comparison.difference.n if comparison else "",
        "against minus this": f"{comparison.difference.mean:.6g}" if comparison else "",
        "p": f"{comparison.p:.3g}" if comparison else "",
        "p, Holm": f"{comparison.holm:.3g}" if comparison else "",
    }


def latex(report: Report) -> str:
    """The summary as a table for ``\\usepackage{booktabs}``; a part of it for each difficulty."""
    scale = report.benchmark.scale
    head = ["Method", *report.official, "n", "Images", "Evaluations", "VLM calls", "Seconds"]
    lines = [
        rf"% {report.benchmark.name}, at {report.most}. Brackets: 95 % intervals.",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(map(_escaped, head)) + r" \\",
        r"\midrule",
        *_latex_rows(report, report.official, scale),
    ]
    for stratum in report.strata:
        title = f"{stratum.level}, {len(stratum.prompts)} prompts"
        lines += [r"\midrule", rf"\multicolumn{{{len(head)}}}{{l}}{{{title}}} \\"]
        lines += _latex_rows(stratum, report.official, scale)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_rows(figures: Figures, names: Sequence[str], scale: float) -> list[str]:
    lines = []
    for row in figures.rows:
        cost = row.final.cost
        ours = row.figures(names)
        cells = [row.label, *(official(figure, scale) if figure else "" for figure in ours)]
        cells += [str(row.official[0].n), f"{cost.images:.2f}", figures.evaluations(row)]
        cells += [f"{cost.calls:.1f}", f"{cost.seconds:.1f}"]
        lines.append(" & ".join(map(_escaped, cells)) + r" \\")
    return lines


def _difficulty(report: Report, record: Record) -> dict[str, Any]:
    """How hard a record's prompt is, and the plain pictures that say so."""
    if report.difficulty is None:
        return {}
    ease = report.difficulty.prompts[record.key.sample]
    return {
        "difficulty": ease.level,
        "plain pictures": ease.pictures,
        "plain pictures right": ease.right,
    }


def _shared_parts(report: Report) -> list[str]:
    """The names of the parts that all scored pictures have, in their order."""
    scores = [
        record.score(record.after(report.images))
        for column in report.columns
        for record in column.records
    ]
    named = [[name for name, _ in score.parts] for score in scores if score.value is not None]
    shared = set[str]().union(*named).intersection(*named) if named else set()
    return [name for name in named[0] if name in shared] if named else []


def _line(record: Record, place: int, names: Sequence[str]) -> dict[str, Any]:
    """What a method would hand over after a step, and what it took."""
    step, score = record.steps[place], record.score(place)
    chosen, values = record.steps[step.chosen], dict(score.parts)
    cost, usage = step.cost, asdict(step.cost.usage)
    return {
        "sample": record.key.sample,
        "repeat": record.key.repeat,
        "tag": record.tag,
        "prompt": record.prompt,
        "seed": record.seed,
        "score": "" if score.value is None else f"{score.value:g}",
        **{name: f"{values[name]:g}" if name in values else "" for name in names},
        "missing": "yes" if score.missing else "no",
        "reason": score.reason,
        "accepted": {True: "yes", False: "no", None: "unscored"}[chosen.accepted],
        "chosen": step.chosen,
        "picture": chosen.image,
        "kept": _number(chosen.kept),
        "negatives": "; ".join(chosen.negatives),
        "images": cost.images,
        "evaluations": cost.evaluations,
        "seconds": f"{cost.seconds:.3f}",
        "vlm_seconds": f"{usage.pop('seconds'):.3f}",
        **usage,
    }


def _summary(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {
        "method": row.label,
        "samples": row.samples,
        "unscored": row.unscored,
        "missing": row.missing,
        "without verdict": row.unverified,
    }
    for figure in row.official:
        line |= {
            figure.name: _number(figure.value),
            f"{figure.name}, low": _number(figure.low),
            f"{figure.name}, high": _number(figure.high),
            f"{figure.name}, n": figure.n,
        }
    score = row.final.score
    line |= {**_interval("score", score), "score, n": score.n if score else 0}
    line |= {**_interval("kept", row.kept), **_interval("right and kept", row.kept_most)}
    line |= {"kept, n": row.kept.n if row.kept else ""}
    return line | {name: _number(value) for name, value in asdict(row.final.cost).items()}


def _interval(name: str, estimate: Estimate | None) -> dict[str, str]:
    return {
        name: _number(estimate.mean if estimate else None),
        f"{name}, low": _number(estimate.low if estimate else None),
        f"{name}, high": _number(estimate.high if estimate else None),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _csv(lines: Sequence[Mapping[str, Any]], header: Sequence[str] = ()) -> str:
    """The lines under the names of all their columns."""
    columns = header or list(dict.fromkeys(name for line in lines for name in line))
    text = StringIO()
    rows = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    rows.writeheader()
    rows.writerows(lines)
    return text.getvalue()


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)

"""From the records of ``attention_study.py`` to the tables and the figure of the document."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from attention_orders import rankings
from attention_statistics import (
    COMPARISONS,
    CONTROLS,
    PROPOSED,
    Floats,
    Picture,
    Record,
    Scores,
    auc,
    binary_cells,
    difference_cells,
    each,
    estimated,
    mean,
    pictures,
    spearman,
    tested,
)

from npcorrect.analysis import measures
from npcorrect.analysis.measures import Measure, Words
from npcorrect.analysis.plots import CurvePanel, curves_figure
from npcorrect.analysis.spans import places_of, prompt_tokens, salient_terms
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.evaluation.report.metrics import Comparison
from npcorrect.mini.embedded import embedded
from npcorrect.ranking import paper_salient

DOCUMENT = Path(__file__).parents[1] / "docs" / "why-it-works.md"
FIGURE = DOCUMENT.with_name("attention.png")
KINDS = ("empty", *PROPOSED, *CONTROLS)
SALIENT = "`salient`"
ORDERS_COMPARED = (
    ("`paper`, without the last term", "`paper`"),
    (SALIENT, "`requirements`"),
    (SALIENT, "`paper`"),
    (SALIENT, "the proposer's order"),
    (SALIENT, "longest first"),
    ("`paper`", "the proposer's order"),
)
FIRST_HALF, SECOND_HALF = slice(0, 6), slice(6, None)
"""Steps over which attention is averaged: those in which a negative acts, and those after them."""
RISES = [pair for pair in COMPARISONS if pair[0] in PROPOSED and "untargeted" not in pair]
"""Kinds whose attention is compared; of untargeted negatives there are too few."""


@dataclass(frozen=True)
class View:
    """A measure of attention in records, by one definition and one choice of salient words."""

    name: str
    measure: Measure
    model: PipelineModel
    salient: Callable[[Picture], Sequence[str]]
    released: bool = False
    _words: dict[str, Words] = field(default_factory=dict)

    def words(self, picture: Picture, tokens: int) -> Words:
        """Places of a prompt's tokens; ``tokens`` counts those of the whole text."""
        prompt = picture.checklist.prompt
        if prompt not in self._words:
            parts = prompt_tokens(self.model, prompt)
            terms = [term for term in self.salient(picture) if re.search(rf"\b{term}\b", prompt)]
            places = {p for term in terms for p in places_of(parts, prompt, term)}
            ours = Words(tuple(part.place for part in parts), tuple(sorted(places)))
            self._words[prompt] = measures.released_words(ours, tokens) if self.released else ours
        return self._words[prompt]

    def series(self, picture: Picture, record: Record) -> Floats:
        """The measure at each step, ``(S,)``; NaN where it would be a share of everything."""
        values = record["released" if self.released else "words"]
        text_ST = torch.tensor(values, dtype=torch.float64)
        words = self.words(picture, text_ST.shape[1])
        if self.measure is measures.fraction and not words.background:
            return np.full(len(text_ST), np.nan)
        series: Floats = self.measure(text_ST, words).numpy()
        return series

    def level(self, picture: Picture, record: Record, steps: slice = SECOND_HALF) -> float:
        """Its mean over some steps."""
        return float(self.series(picture, record)[steps].mean())

    def levels(self, picture: Picture) -> Floats:
        """That of each proposed redraw over the last steps."""
        return np.array([self.level(picture, record) for record in picture.proposed])


def views_of(model: PipelineModel) -> list[View]:
    """The definitions that are compared; the released score and fraction are one and the same."""
    score, share = measures.salient_score, measures.fraction
    return [
        View("our score, the prompt's words", score, model, prompt_words),
        View("our fraction, words at fault", share, model, faulty_words),
        View("released fraction, the prompt's words", share, model, prompt_words, released=True),
        View("our fraction, paper's words", share, model, paper_words),
        View("released fraction, paper's words", share, model, paper_words, released=True),
    ]


def prompt_words(picture: Picture) -> tuple[str, ...]:
    """The words that the requirements name, which in the embedded world are all words."""
    return salient_terms(picture.checklist)


def faulty_words(picture: Picture) -> tuple[str, ...]:
    """The words that the failed requirements name."""
    return salient_terms(picture.faults)


def paper_words(picture: Picture) -> tuple[str, ...]:
    """The numbers of a prompt and the word after each."""
    salient = paper_salient(picture.checklist.prompt)
    return (*salient.quantities, *salient.objects)


def table(columns: str, rows: Sequence[str]) -> str:
    """Columns and rows, their cells separated by bars, in Markdown."""
    rule = "|".join("---" for _ in columns.split("|"))
    return "\n".join((f"| {columns} |", f"|{rule}|", *(f"| {row} |" for row in rows)))


def success_table(among: Sequence[Picture]) -> str:
    """How often each kind of negative corrects."""
    originals = estimated(each(lambda p: p.original["met"], among), ".1%")
    rows = [f"the failed picture itself | {len(among)} | 0 % | {originals}"]
    for kind in KINDS:
        right, met = (
            estimated(each(lambda p: mean([r[key] for r in p.of(kind)]), among), ".1%")  # noqa: B023
            for key in ("correct", "met")
        )
        rows.append(f"{kind} | {sum(len(p.of(kind)) for p in among)} | {right} | {met}")
    return table("negative | redraws | right | requirements met", rows)


CORRECTION = (
    "compared | n | right, first of each | only one right | difference | p | Holm "
    "| requirements met, difference | p | Holm"
)


def first_right(kind: str, among: Sequence[Picture]) -> Floats:
    """Whether the first negative of a kind corrected; NaN where there is none."""
    return each(lambda p: mean([r["correct"] for r in p.of(kind)[:1]]), among)


def met(kind: str, among: Sequence[Picture]) -> Floats:
    """The share of requirements met, in the mean over a kind's negatives."""
    return each(lambda p: mean([r["met"] for r in p.of(kind)]), among)


def correction_rows(
    names: Sequence[str], sides: Sequence[tuple[tuple[str, Sequence[Picture]], ...]]
) -> list[str]:
    """A row for each pair of kinds of negatives, each kind among pictures in the same order."""
    right = tested([(first_right(*a), first_right(*b)) for a, b in sides])
    share = tested([(met(*a), met(*b)) for a, b in sides])
    return [
        f"{name} | {_n(first)} | {binary_cells(first)} | {difference_cells(second, '.1%')}"
        for name, first, second in zip(names, right, share, strict=True)
    ]


def correction_tests(among: Sequence[Picture]) -> str:
    """Kinds of negatives against each other on the same failures."""
    names = [f"{first}, {second}" for first, second in COMPARISONS]
    sides = [((first, among), (second, among)) for first, second in COMPARISONS]
    return table(CORRECTION, correction_rows(names, sides))


def rule_tests(long: Sequence[Picture], released: Sequence[Picture]) -> str:
    """The two schedules against each other on the same failures, for each kind of negative."""
    by = {p.original["prompt"]: p for p in released}
    ours = [p for p in long if p.original["prompt"] in by]
    theirs = [by[p.original["prompt"]] for p in ours]
    sides = [((kind, ours), (kind, theirs)) for kind in KINDS]
    names = [f"{kind}: long, released" for kind in KINDS]
    return table(CORRECTION, correction_rows(names, sides))


def rise_tests(views: Sequence[View], among: Sequence[Picture]) -> str:
    """How attention changes from one kind of negative to another, on the same failures."""

    def levels(view: View, kind: str, steps: slice) -> Floats:
        return each(lambda p: mean([view.level(p, r, steps) for r in p.of(kind)]), among)

    rows = [(view, first, second) for view in views for first, second in RISES]
    early, late = (
        tested([(levels(view, a, steps), levels(view, b, steps)) for view, a, b in rows])
        for steps in (FIRST_HALF, SECOND_HALF)
    )
    lines = [
        f"{view.name} | {first}, {second} | {_n(one)} "
        f"| {difference_cells(one, '.4f')} | {difference_cells(other, '.4f')}"
        for (view, first, second), one, other in zip(rows, early, late, strict=True)
    ]
    columns = "first half, difference | p | Holm | second half, difference | p | Holm"
    return table(f"attention | compared | n | {columns}", lines)


def attention_table(views: Sequence[View], among: Sequence[Picture]) -> str:
    """Whether attention tells, within a picture, right redraws from wrong ones."""
    levels = [[view.levels(picture) for picture in among] for view in views]
    within = [_within(found, among) for found in levels]
    chance = np.full(len(among), 0.5)
    against_chance = tested([(found, chance) for found in within])
    against_first = tested([(found, within[0]) for found in within[1:]])
    shares = [np.array([r["met"] for r in picture.proposed]) for picture in among]
    lines = []
    for place, (test, other) in enumerate(zip(against_chance, (None, *against_first), strict=True)):
        together = [spearman(a, b) for a, b in zip(levels[place], shares, strict=True)]
        lines.append(
            f"{views[place].name} | {_n(test)} | {estimated(within[place])} | {_ps(test)} "
            f"| {difference_cells(other, '.2f')} | {estimated(np.array(together))}"
        )
    columns = "attention | n | AUC within a picture | p | Holm | against the first row's"
    return table(f"{columns} | p | Holm | rank correlation with what is met", lines)


@dataclass(frozen=True)
class Order:
    """How an order of the negatives does on each picture."""

    within: Floats
    first: Floats
    with_attention: Floats


def orders(scores: Mapping[str, Scores], view: View, among: Sequence[Picture]) -> dict[str, Order]:
    """Every order on every picture; of equal scores the one that was proposed first is first."""
    levels = [view.levels(picture) for picture in among]
    found = {}
    for name, of in scores.items():
        values = [of(picture) for picture in among]
        first = [p.right[np.argmax(v)] for p, v in zip(among, values, strict=True)]
        rise = [spearman(v, t) for v, t in zip(values, levels, strict=True)]
        found[name] = Order(_within(values, among), np.array(first), np.array(rise))
    return found


def ranking_table(found: Mapping[str, Order], among: Sequence[Picture]) -> str:
    """How well text alone predicts correction, and attention to the salient words."""
    chance = np.full(len(among), 0.5)
    tests = tested([(order.within, chance) for order in found.values()])
    lines = [
        f"{name} | {_n(test)} | {estimated(order.within)} | {_ps(test)} "
        f"| {estimated(order.first, '.1%')} | {estimated(order.with_attention)}"
        for (name, order), test in zip(found.items(), tests, strict=True)
    ]
    made = table(
        "order | n | AUC within a picture | p | Holm | right at the first try "
        "| rank correlation with attention",
        lines,
    )
    random = estimated(each(lambda p: mean(p.right.tolist()), among), ".1%")
    return f"{made}\n\nIn a random order, {random} are right at the first try."


def ranking_tests(found: Mapping[str, Order]) -> str:
    """Orders against each other on the same failures."""
    within = tested([(found[a].within, found[b].within) for a, b in ORDERS_COMPARED])
    first = tested([(found[a].first, found[b].first) for a, b in ORDERS_COMPARED])
    lines = [
        f"{a}, {b} | {_n(auc_test)} | {difference_cells(auc_test, '.2f')} "
        f"| {_n(first_test)} | {binary_cells(first_test)}"
        for (a, b), auc_test, first_test in zip(ORDERS_COMPARED, within, first, strict=True)
    ]
    return table(
        "compared | n | AUC, difference | p | Holm "
        "| n | right at the first try | only one right | difference | p | Holm",
        lines,
    )


def _within(scores: Sequence[Floats], among: Sequence[Picture]) -> Floats:
    """The AUC of the negatives of each picture; NaN where all are right or all wrong."""
    return np.array([auc(p.right, found) for p, found in zip(among, scores, strict=True)])


def _n(comparison: Comparison | None) -> int:
    return comparison.difference.n if comparison else 0


def _ps(comparison: Comparison | None) -> str:
    """P against chance, and after Holm's correction."""
    return " | ".join(difference_cells(comparison, ".2f").split(" | ")[1:])


def figure(views: Sequence[View], among: Sequence[Picture], path: Path) -> None:
    """Each measure's change against the empty negative, step by step; grey where negatives act."""
    panels = [
        CurvePanel(
            view.name, {kind: _changes(view, kind, among) for kind in (*PROPOSED, *CONTROLS)}
        )
        for view in views
    ]
    title = "Attention in the long schedule, against that under the empty negative"
    curves_figure(panels, title, window=(0, FIRST_HALF.stop)).savefig(path, dpi=160)


def _changes(view: View, kind: str, among: Sequence[Picture]) -> Floats:
    """The change of each picture that has a negative of the kind and the measure, ``(N, S)``."""
    rows = []
    for picture in among:
        if found := [view.series(picture, record) for record in picture.of(kind)]:
            (empty,) = picture.of("empty")
            rows.append(np.mean(found, axis=0) - view.series(picture, empty))
    changes = np.stack(rows)
    known: Floats = changes[~np.isnan(changes).any(axis=1)]
    return known


def fill(document: str, tables: Mapping[str, str]) -> str:
    """The document with each table between its marks renewed.

    Raises:
        ValueError: marks in the document have no table.
    """
    for name in re.findall(r"<!-- (?!end of )(.*?) -->", document):
        if name not in tables:
            raise ValueError(f"{DOCUMENT} has marks for {name!r}, which is no table")
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = document.partition(begin)
        document = f"{head}{begin}\n\n{tables[name]}\n\n{end}{rest.partition(end)[2]}"
    return document


def write_report(records: Path) -> None:
    """Renew the tables and the figure of the document."""
    model = embedded()
    views = views_of(model)
    long, released = (pictures(records, rule) for rule in ("long", "released"))
    tables: dict[str, str] = {}
    for rule, among in (("long", long), ("released", released)):
        tables |= {
            f"success: {rule}": success_table(among),
            f"correction: {rule}": correction_tests(among),
            f"rise: {rule}": rise_tests(views[:3], among),
        }
    found = orders(rankings(model), views[0], long)
    tables |= {
        "schedules": rule_tests(long, released),
        "attention": attention_table(views, long),
        "ranking": ranking_table(found, long),
        "orders": ranking_tests(found),
    }
    figure(views[:3], long, FIGURE)
    for name, text in tables.items():
        print(f"\n{name}\n{text}")
    DOCUMENT.write_text(fill(DOCUMENT.read_text(encoding="utf-8"), tables), encoding="utf-8")

"""From the records of ``attention_study.py`` to the tables and the figure of the document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from attention_orders import rankings
from attention_statistics import (
    CONTROLS,
    PROPOSED,
    Floats,
    Picture,
    Record,
    Scores,
    mean_of,
    pictures,
    prediction,
    spearman,
    with_interval,
)

from npcorrect.analysis import measures
from npcorrect.analysis.measures import Words
from npcorrect.analysis.plots import Panel, curves_figure
from npcorrect.analysis.spans import places_of, prompt_tokens, salient_terms
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.mini.embedded import embedded
from npcorrect.ranking import paper_salient
from npcorrect.records import Checklist

DOCUMENT = Path(__file__).parents[1] / "docs" / "why-it-works.md"
FIGURE = DOCUMENT.with_name("attention.png")


class Gaze:
    """Attention measures of records; which words are salient is its one choice."""

    def __init__(self, model: PipelineModel, salient: Callable[[Checklist], Sequence[str]]) -> None:
        self._model, self._salient = model, salient
        self._words: dict[str, Words] = {}

    def words(self, checklist: Checklist) -> Words:
        """Places of a prompt's tokens, counted among its words."""
        prompt = checklist.prompt
        if prompt not in self._words:
            tokens = prompt_tokens(self._model, prompt)
            terms = [term for term in self._salient(checklist) if re.search(rf"\b{term}\b", prompt)]
            places = {p for term in terms for p in places_of(tokens, prompt, term)}
            everything = tuple(token.place for token in tokens)
            self._words[prompt] = Words(everything, tuple(sorted(places)))
        return self._words[prompt]

    def series(self, name: str, picture: Picture, record: Record) -> Floats:
        """A measure at each step, ``(S,)``."""
        text_ST = torch.tensor(record["words"], dtype=torch.float64)
        series: Floats = MEASURES[name](text_ST, self.words(picture.checklist)).numpy()
        return series

    def tail(self, name: str, picture: Picture, record: Record) -> float:
        """Its mean over the last steps."""
        return float(self.series(name, picture, record)[-measures.TAIL :].mean())

    def rise(self, name: str, picture: Picture, record: Record) -> float:
        """Its tail against that of the redraw with the empty negative."""
        return self.tail(name, picture, record) - self.tail(name, picture, picture.empty)


MEASURES = {
    "score": measures.salient_score,
    "fraction": measures.fraction,
    "ratio": measures.ratio,
}


def paper_words(checklist: Checklist) -> tuple[str, ...]:
    """The numbers of a prompt and the word after each."""
    salient = paper_salient(checklist.prompt)
    return (*salient.quantities, *salient.objects)


def success_table(among: Sequence[Picture]) -> Iterator[str]:
    """How often each kind of negative corrects."""
    yield "| negative | redraws | right | requirements met |"
    yield "|---|---|---|---|"
    originals = with_interval(mean_of(lambda p: p.original["met"]), among, ".1%")
    yield f"| the failed picture itself | {len(among)} | 0 % | {originals} |"
    kinds: dict[str, Callable[[Picture], Sequence[Record]]] = {"empty": lambda p: (p.empty,)}
    for source in (*PROPOSED, *CONTROLS):
        kinds[source] = lambda p, source=source: [r for r in p.redraws if r["source"] == source]
    for name, of in kinds.items():
        share = [
            with_interval(
                mean_of(lambda p: np.mean([r[key] for r in of(p)]) if of(p) else np.nan),  # noqa: B023
                among,
                ".1%",
            )
            for key in ("correct", "met")
        ]
        yield f"| {name} | {sum(len(of(p)) for p in among)} | {share[0]} | {share[1]} |"


def rise_table(gazes: Mapping[str, Gaze], among: Sequence[Picture]) -> Iterator[str]:
    """How far attention rises against the empty negative."""
    yield "| salient words | negative | change of score | change of fraction | score rises in |"
    yield "|---|---|---|---|---|"
    for words, gaze in gazes.items():
        for source in (*PROPOSED, *CONTROLS):

            def rises(p: Picture, name: str) -> list[float]:
                return [gaze.rise(name, p, r) for r in p.redraws if r["source"] == source]  # noqa: B023

            cells = [
                with_interval(mean_of(lambda p: _mean(rises(p, name))), among, "+.4f")  # noqa: B023
                for name in ("score", "fraction")
            ]
            up = with_interval(mean_of(lambda p: _mean([r > 0 for r in rises(p, "score")])), among)
            yield f"| {words} | {source} | {cells[0]} | {cells[1]} | {up} |"


def attention_table(gazes: Mapping[str, Gaze], among: Sequence[Picture]) -> Iterator[str]:
    """Whether a rise of attention goes with correction."""
    yield "| salient words | rise of the | AUC within a picture | AUC over all | rank correlation |"
    yield "|---|---|---|---|---|"
    for words, gaze in gazes.items():
        for name in MEASURES:
            if name == "ratio" and any(not gaze.words(p.checklist).background for p in among):
                continue
            rises: Scores = lambda p: np.array([gaze.rise(name, p, r) for r in p.proposed])  # noqa: B023, E731
            within, over_all, _ = prediction(rises, among)
            together = with_interval(
                mean_of(lambda p: spearman(rises(p), np.array([r["met"] for r in p.proposed]))),  # noqa: B023
                among,
            )
            yield f"| {words} | {name} | {within} | {over_all} | {together} |"


def ranking_table(
    scores: Mapping[str, Scores], gaze: Gaze, among: Sequence[Picture]
) -> Iterator[str]:
    """How well text alone predicts correction, and the rise of the salient score."""
    yield (
        "| order | AUC within a picture | AUC over all | right at the first try "
        "| rank correlation with the rise |"
    )
    yield "|---|---|---|---|---|"
    for name, of in scores.items():
        cells = prediction(of, among)
        rise = with_interval(
            mean_of(
                lambda p: spearman(
                    of(p),  # noqa: B023
                    np.array([gaze.rise("score", p, r) for r in p.proposed]),
                )
            ),
            among,
        )
        yield f"| {name} | {' | '.join(cells)} | {rise if name != 'random order' else ''} |"
    mixed = sum(0 < picture.right.mean() < 1 for picture in among)
    yield f"\n{mixed} of these {len(among)} pictures have right and wrong redraws to tell apart."


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def figure(gaze: Gaze, among: Mapping[str, Sequence[Picture]], path: Path) -> None:
    """The salient score's change against the empty negative, step by step, for each rule."""
    panels = []
    for rule, those in among.items():
        curves = {}
        for source in (*PROPOSED, *CONTROLS):
            rows = [
                np.mean(
                    [
                        gaze.series("score", p, r) - gaze.series("score", p, p.empty)
                        for r in p.redraws
                        if r["source"] == source
                    ],
                    axis=0,
                )
                for p in those
                if any(r["source"] == source for r in p.redraws)
            ]
            curves[source] = np.stack(rows)
        panels.append(Panel(f"rule {rule}: change of the salient score", curves))
    title = "Attention to the required words, against that under the empty negative"
    curves_figure(panels, title).savefig(path, dpi=160)


def fill(document: str, tables: Mapping[str, str]) -> str:
    """The document with each table between its marks renewed."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if begin not in document or end not in document:
            raise ValueError(f"{DOCUMENT} has no marks for {name!r}")
        head, _, rest = document.partition(begin)
        document = f"{head}{begin}\n\n{table}\n\n{end}{rest.partition(end)[2]}"
    return document


def write_report(records: Path) -> None:
    """Renew the tables and the figure of the document."""
    model = embedded()
    sets = {
        "tuning, rule extra": pictures(records, "tuning", "extra"),
        "tuning, rule paper": pictures(records, "tuning", "paper"),
        "minibench, rule extra": pictures(records, "minibench", "extra"),
    }
    gazes = {"required": Gaze(model, salient_terms), "paper's": Gaze(model, paper_words)}
    tables = {}
    for name, among in sets.items():
        if not among:
            continue
        scores = rankings(model, among)
        for what, lines in (
            ("success", success_table(among)),
            ("rise", rise_table(gazes, among)),
            ("attention", attention_table(gazes, among)),
            ("ranking", ranking_table(scores, gazes["required"], among)),
        ):
            tables[f"{what}: {name}"] = "\n".join(lines)
            print(f"\n{what}: {name}, {len(among)} pictures\n{tables[f'{what}: {name}']}")
    extra, paper, _ = sets.values()
    drawn = {"extra": extra, "paper": paper}
    figure(gazes["required"], {k: v for k, v in drawn.items() if v}, FIGURE)
    document = DOCUMENT.read_text(encoding="utf-8")
    kept = {name: table for name, table in tables.items() if f"<!-- {name} -->" in document}
    DOCUMENT.write_text(fill(document, kept), encoding="utf-8")

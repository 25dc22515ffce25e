"""From the records of ``attention_study.py`` to the tables and the figure of docs/why-it-works.md.

Every interval is a 95 % percentile bootstrap over failed pictures (all negatives of a picture come
together). "Within a picture" compares the negatives of one picture alone, which is what a ranking
has to do; "over all" compares across pictures, and so also tells easy pictures from hard ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch.nn.functional import layer_norm

from npcorrect.analysis import measures
from npcorrect.analysis.measures import Words
from npcorrect.analysis.plots import Panel, curves_figure
from npcorrect.analysis.spans import places_of, prompt_tokens, salient_terms
from npcorrect.diffusion.base import TextEncoder, TokenStates
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.mini.embedded import embedded
from npcorrect.mini.grammar import parse
from npcorrect.ranking import (
    ALL_PARTS,
    SALIENT_PARTS,
    PaperRanker,
    Ranker,
    RequirementRanker,
    SalientRanker,
    paper_salient,
)
from npcorrect.types import Candidate, Checklist

DOCUMENT = Path(__file__).parents[1] / "docs" / "why-it-works.md"
FIGURE = DOCUMENT.with_name("attention.png")
PROPOSED = ("targeted", "untargeted", "combined")
CONTROLS = ("random phrase", "random caption")
RESAMPLES = 2000
Record = Mapping[str, Any]
Floats = NDArray[np.float64]
Statistic = Callable[[Sequence["Picture"]], float]


@dataclass(frozen=True)
class Picture:
    """One failed picture and its redraws."""

    original: Record
    empty: Record
    redraws: tuple[Record, ...]

    @property
    def proposed(self) -> tuple[Record, ...]:
        """The redraws with negatives that were proposed for it."""
        return tuple(r for r in self.redraws if r["source"] in PROPOSED)

    @cached_property
    def checklist(self) -> Checklist:
        """What its prompt requires."""
        prompt = self.original["prompt"]
        return Checklist(prompt, parse(prompt).requirements())

    @cached_property
    def right(self) -> Floats:
        """1 where a proposed negative corrected it."""
        return np.array([float(r["correct"]) for r in self.proposed])


def pictures(path: Path, which: str, rule: str) -> list[Picture]:
    """The failed pictures all of whose redraws are recorded."""
    groups: dict[tuple[str, int], list[Record]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if (record["set"], record["rule"]) == (which, rule):
            groups.setdefault((record["prompt"], record["seed"]), []).append(record)
    found = []
    for records in groups.values():
        by = {record["source"]: record for record in records}
        if by.keys() >= {"none", "empty", *CONTROLS}:
            others = tuple(r for r in records if r["source"] not in ("none", "empty"))
            found.append(Picture(by["none"], by["empty"], others))
    return found


def with_interval(statistic: Statistic, among: Sequence[Picture], form: str = ".2f") -> str:
    """A statistic and its interval; nothing where no picture has a value."""
    if np.isnan(value := statistic(among)):
        return ""
    rng = np.random.default_rng(0)
    draws = [
        statistic([among[i] for i in rng.integers(len(among), size=len(among))])
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def mean_of(values: Callable[[Picture], float]) -> Statistic:
    """The mean over the pictures that have a value, each worked out once."""
    known: dict[int, float] = {}

    def statistic(among: Sequence[Picture]) -> float:
        for picture in among:
            if id(picture) not in known:
                known[id(picture)] = values(picture)
        found = [known[id(picture)] for picture in among if not np.isnan(known[id(picture)])]
        return float(np.mean(found)) if found else float("nan")

    return statistic


def auc(right: Floats, scores: Floats) -> float:
    """Probability that a right one scores above a wrong one, ties half; NaN without both."""
    good = int(right.sum())
    bad = len(right) - good
    if not good or not bad:
        return float("nan")
    return float((rankdata(scores)[right > 0].sum() - good * (good + 1) / 2) / (good * bad))


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; NaN where one side does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


Scores = Callable[[Picture], Floats]
"""A score for each proposed redraw of a picture."""


def prediction(scores: Scores, among: Sequence[Picture]) -> list[str]:
    """AUC within a picture and over all, and success of the best scored negative, as cells."""
    memory: dict[int, Floats] = {}

    def known(picture: Picture) -> Floats:
        if id(picture) not in memory:
            memory[id(picture)] = scores(picture)
        return memory[id(picture)]

    def over_all(chosen: Sequence[Picture]) -> float:
        right = np.concatenate([picture.right for picture in chosen])
        return auc(right, np.concatenate([known(picture) for picture in chosen]))

    def first(picture: Picture) -> float:
        best = known(picture)
        return float(picture.right[best == best.max()].mean())

    return [
        with_interval(mean_of(lambda p: auc(p.right, known(p))), among),
        with_interval(over_all, among),
        with_interval(mean_of(first), among, ".1%"),
    ]


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


class Keys:
    """The text as the joint blocks' keys, instead of the encoder's states.

    ``RMSNorm(W_k LayerNorm(states))`` of every joint block, side by side, without the modulation
    by time and without what earlier blocks add: all that can be had without drawing.
    """

    def __init__(self, model: PipelineModel) -> None:
        self._model = model

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[TokenStates]:
        denoiser = self._model.pipeline.transformer
        found = []
        for text in self._model.encode(texts):
            states_TD = denoiser.context_embedder(torch.from_numpy(text.states))
            normal_TD = layer_norm(states_TD, states_TD.shape[-1:], eps=1e-6)
            keys = []
            for block in denoiser.transformer_blocks:
                heads = block.attn.add_k_proj(normal_TD).unflatten(-1, (block.attn.heads, -1))
                keys.append(block.attn.norm_added_k(heads).flatten(-2))
            found.append(TokenStates(torch.cat(keys, dim=-1).numpy(), text.special))
        return found


@dataclass(frozen=True)
class Changed:
    """An encoder whose states are changed text by text."""

    inner: TextEncoder
    change: Callable[[TokenStates], TokenStates]

    def encode(self, texts: Sequence[str]) -> list[TokenStates]:
        return [self.change(text) for text in self.inner.encode(texts)]


def centred(encoder: TextEncoder, texts: Sequence[str]) -> TextEncoder:
    """The space moved so that the mean token of these texts is its origin."""
    mean = np.concatenate([text.states for text in encoder.encode(texts)]).mean(axis=0)
    return Changed(encoder, lambda text: TokenStates(text.states - mean, text.special))


def words_only(text: TokenStates) -> TokenStates:
    """Without the marks that frame a text."""
    return TokenStates(text.states[~text.special], text.special[~text.special])


def largest(text: TokenStates) -> TokenStates:
    """One token: the largest of each component."""
    return TokenStates(text.states.max(axis=0, keepdims=True), np.array([False]))


def score_of(ranker: Ranker, parts: Sequence[str] = ALL_PARTS) -> Scores:
    """A ranker's score, or the sum of some of its parts, in the order of the redraws."""

    def scores(picture: Picture) -> Floats:
        candidates = tuple(Candidate(r["negative"], r["source"]) for r in picture.proposed)
        by = {
            ranked.candidate: sum(value for name, value in ranked.parts if name in parts)
            for ranked in ranker.rank(picture.checklist, candidates)
        }
        return np.array([by[candidate] for candidate in candidates])

    return scores


def rankings(model: PipelineModel, among: Sequence[Picture]) -> dict[str, Scores]:
    """Every way of ordering that is compared, by name."""
    texts = sorted({picture.original["prompt"] for picture in among})
    paper, required = PaperRanker(model), RequirementRanker(model)
    middle, keys = centred(model, texts), Keys(model)
    return {
        "random order": lambda p: np.zeros(len(p.proposed)),
        "the proposer's order": lambda p: -np.arange(float(len(p.proposed))),
        "longest first": lambda p: np.array(
            [len(r["negative"].split()) for r in p.proposed], float
        ),
        "`paper`": score_of(paper),
        "`paper`, without the last term": score_of(paper, SALIENT_PARTS),
        "`requirements`": score_of(required),
        "`salient` (`requirements` without the last term)": score_of(SalientRanker(model)),
        "last term alone": score_of(required, ("negative",)),
        "`requirements`, centred": score_of(RequirementRanker(middle)),
        "`salient`, centred": score_of(SalientRanker(middle)),
        "`salient`, words without marks": score_of(SalientRanker(Changed(model, words_only))),
        "`salient`, largest component": score_of(SalientRanker(Changed(model, largest))),
        "`requirements`, blocks' keys": score_of(RequirementRanker(keys)),
        "`salient`, blocks' keys": score_of(SalientRanker(keys)),
    }


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
    figure(
        gazes["required"], {k: v for k, v in drawn.items() if v}, DOCUMENT.with_name("attention")
    )
    document = DOCUMENT.read_text(encoding="utf-8")
    kept = {name: table for name, table in tables.items() if f"<!-- {name} -->" in document}
    DOCUMENT.write_text(fill(document, kept), encoding="utf-8")

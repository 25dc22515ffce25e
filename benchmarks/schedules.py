"""When a negative should act: every rule over four intervals, one redrawing of each failed picture.

    python benchmarks/schedules.py                       # all of MiniBench
    python benchmarks/schedules.py --limit 8 --rules extra turns

MiniBench's prompts are drawn by the embedded model. Each picture that its verifier rejects is
redrawn once for each rule and interval, from noise and the same seed, without looks, so that
nothing but the negative differs; the judge, which nobody consults on the way, counts. Intervals are
shares of the steps. *Right* has Wilson's 95 % interval; *moved* is the mean of the receipts, to be
compared within a rule. An interval in which a rule cannot act has the reason in place of figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.progress import track
from rich.table import Table

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Sample
from npcorrect.evaluation.benchmarks.mini_bench import MiniBench, TemplateJudge
from npcorrect.evaluation.report.metrics import estimate
from npcorrect.interval import Interval
from npcorrect.records import Generation, Request
from npcorrect.session import Session, SessionSettings, open_session
from npcorrect.settings import RULES

INTERVALS = (Interval(0, 0.06), Interval(0, 1), Interval(0.2, 0.7), Interval(0.25, 1))
ONCE = {"candidates": 1, "looks": 0, "rewinds": 0, "strength": 1.0, "fresh": False}


def failed(session: Session, limit: int | None) -> Iterator[tuple[Sample, Generation]]:
    """MiniBench's samples, evenly over its tags, whose first picture the verifier rejects."""
    samples = MiniBench().samples()
    chosen = samples[:: max(len(samples) // (limit or len(samples)), 1)][:limit]
    for sample in track(chosen, "originals", console=Console(stderr=True)):
        request = Request(sample.prompt, seed=sample.seed, candidates=0)
        (original,) = session.correct(request)
        if original.verdict.accepted is False:
            yield sample, original.generation


def redrawn(session: Session, request: Request, original: Generation) -> Generation | None:
    """The one redrawing of a failed picture; None where no negative was proposed."""
    attempts = [*session.correct(request, original=original)]
    return attempts[1].generation if len(attempts) > 1 else None


def row(
    session: Session, rule: str, interval: Interval, pictures: Sequence[tuple[Sample, Generation]]
) -> tuple[str, ...]:
    """A rule and an interval, and what they came to, as texts."""
    named = rule, f"{interval.start:g}..{interval.stop:g}"
    scores: dict[tuple[int, int], float | None] = {}
    moved: list[float] = []
    for sample, original in pictures:
        request = Request(sample.prompt, seed=sample.seed, rule=rule, negative=str(interval))
        try:
            generation = redrawn(session, replace(request, **ONCE), original)
        except SettingsError as error:
            return *named, "", "", "", str(error)
        if generation is None:
            continue
        (score,) = TemplateJudge().scores([(sample, generation.image)])
        scores[sample.id, 0] = score.value
        if generation.receipt and generation.receipt.moved is not None:
            moved.append(generation.receipt.moved)
    found = estimate(scores)
    if found is None:
        return *named, "", "", "", "nothing was redrawn"
    share = f"{100 * found.mean:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"
    return *named, share, str(found.n), f"{sum(moved) / len(moved):.2f}" if moved else "", ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, help="prompts to draw, of MiniBench's 320")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    options = parser.parse_args()
    table = Table("rule", "interval", "right", "n", "moved", "")
    with open_session(SessionSettings()) as session:
        pictures = [*failed(session, options.limit)]
        arms = [(rule, interval) for rule in options.rules for interval in INTERVALS]
        for rule, interval in track(arms, "redrawings", console=Console(stderr=True)):
            table.add_row(*row(session, rule, interval, pictures))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

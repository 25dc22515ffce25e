"""When a negative should act: every rule over four intervals, one redrawing of each failed picture.

    python benchmarks/schedules.py                       # all of MiniBench
    python benchmarks/schedules.py --limit 8 --rules paper extra

MiniBench's prompts are drawn by the embedded model. Each picture that its verifier rejects is
redrawn once for each rule and interval with the first negative proposed, from noise and the same
seed, without looks, so that nothing but the rule and the interval differs; the judge, which nobody
consults on the way, counts. Intervals are shares of the steps. *Right* has Wilson's 95 % interval;
*moved* is the mean of the receipts, to be compared within a rule. An interval in which a rule
cannot act has the reason in place of figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks.base import Sample
from npcorrect.evaluation.benchmarks.mini_bench import MiniBench, TemplateJudge
from npcorrect.evaluation.report.metrics import estimate
from npcorrect.interval import Interval
from npcorrect.mini.embedded import embedded
from npcorrect.mini.roles import embedded_roles
from npcorrect.records import Drawing, Generation, Request
from npcorrect.settings import RULES

INTERVALS = (Interval(0, 0.06), Interval(0, 0.5), Interval(0, 1), Interval(0.2, 0.7))
BATCH = 16


@dataclass(frozen=True)
class Failure:
    """A picture that the verifier rejects, and the first negative that was proposed for it."""

    sample: Sample
    negative: str


def drawn(model: PipelineModel, drawings: Sequence[Drawing]) -> Iterator[Generation]:
    """The pictures of all drawings, in their order."""
    for first in range(0, len(drawings), BATCH):
        yield from model.draw(drawings[first : first + BATCH])


def failures(model: PipelineModel, limit: int | None) -> Iterator[Failure]:
    """MiniBench's samples, evenly over its tags, whose first picture the verifier rejects."""
    samples = MiniBench().samples()
    chosen = samples[:: max(len(samples) // (limit or len(samples)), 1)][:limit]
    requests = (Request(sample.prompt, seed=sample.seed) for sample in chosen)
    originals = drawn(model, [model.plan(request).drawing(0, None) for request in requests])
    roles, bench = embedded_roles(), MiniBench()
    for sample, original in zip(chosen, originals, strict=True):
        checklist = bench.checklist(sample)
        verdict = roles.verifier.verify(original.image, checklist)
        if verdict.accepted is False:
            caption = roles.captioner.caption(original.image)
            (first,) = roles.proposer.propose(checklist, verdict, caption, 1)
            yield Failure(sample, first.negative_prompt)


def row(
    model: PipelineModel, rule: str, interval: Interval, failed: Sequence[Failure]
) -> tuple[str, ...]:
    """A rule and an interval, and what they came to, as texts."""
    named = rule, f"{interval.start:g}..{interval.stop:g}"
    try:
        drawings = [drawing(model, rule, interval, failure) for failure in failed]
    except SettingsError as error:
        return *named, "", "", "", str(error)
    redrawn = list(drawn(model, drawings))
    scores = TemplateJudge().scores(
        [(failure.sample, one.image) for failure, one in zip(failed, redrawn, strict=True)]
    )
    found = estimate({(place, 0): score.value for place, score in enumerate(scores)})
    assert found is not None
    share = f"{100 * found.mean:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"
    receipts = (one.receipt.moved for one in redrawn if one.receipt)
    moved = [value for value in receipts if value is not None]
    return *named, share, str(found.n), f"{sum(moved) / len(moved):.2f}" if moved else "", ""


def drawing(model: PipelineModel, rule: str, interval: Interval, failure: Failure) -> Drawing:
    """The failed picture's redrawing; refused where the rule cannot act in the interval."""
    request = Request(
        failure.sample.prompt,
        seed=failure.sample.seed,
        rule=rule,
        negative=str(interval),
        looks=0,
        rewinds=0,
        strength=1.0,
        fresh=False,
    )
    return model.plan(request).drawing(0, failure.negative)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, help="prompts to draw, of MiniBench's 320")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    options = parser.parse_args()
    table = Table("rule", "interval", "right", "n", "moved", "")
    model = embedded()
    failed = list(failures(model, options.limit))
    arms = [(rule, interval) for rule in options.rules for interval in INTERVALS]
    for rule, interval in track(arms, "redrawings", console=Console(stderr=True)):
        table.add_row(*row(model, rule, interval, failed))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()

"""MiniBench: the correction loop and best-of-n seeds, with the same verifier, at equal costs.

    python benchmarks/minibench.py --out runs/minibench.jsonl
    python benchmarks/minibench.py --out runs/minibench.jsonl --report

Every method starts from the same original picture, stops at the first one that the verifier
accepts, and is scored on what it chose by the judge (classical vision), which the loop never
consults. ``--repeat 1`` runs all prompts again with other seeds. Each finished sample is one line
of ``--out``, and is not drawn again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.stats import binomtest
from tqdm import tqdm

from npcorrect.loop import correct, select
from npcorrect.mini.bench import Sample, load
from npcorrect.mini.data import TAGS
from npcorrect.mini.embedded import embedded
from npcorrect.mini.grammar import parse
from npcorrect.mini.reader import judge
from npcorrect.mini.vlm import embedded_roles
from npcorrect.ranking import PaperRanker, Ranker, RequirementRanker, SourceRanker
from npcorrect.types import Attempt, Request

IMAGES = 6
REPEAT_SEEDS = 500
"""Added to a prompt's seed for each repeat; seeds of two prompts are 1000 apart."""
LOOP = Request("", max_candidates=IMAGES - 1)
METHODS: dict[str, tuple[Request, str]] = {
    "npc": (LOOP, "requirements"),
    "npc-no-looks": (replace(LOOP, looks=0, negative_scale=1.0), "source"),
    "npc-same-seed": (replace(LOOP, reseed=False), "requirements"),
    "npc-paper": (replace(LOOP, rule="paper", true_cfg_scale=1.8), "paper"),
}
"""The loop's settings by the name of the method, and its ranker."""
BEST_OF_N = "best-of-n"
EXTRA_SEEDS = 2
"""More seeds than ``IMAGES`` for best-of-n, whose pictures take fewer evaluations."""
BUDGETS = tuple(48 * images for images in range(1, IMAGES + EXTRA_SEEDS + 1))
"""Denoiser evaluations a prompt may take at most, in whole pictures of best-of-n."""


@dataclass(frozen=True)
class Step:
    """A method after so many images: what it would have chosen, and spent, had it stopped there."""

    correct: bool
    evaluations: int
    vlm_calls: int


class Bench:
    """The model and the roles, loaded once."""

    def __init__(self) -> None:
        self.model, self.roles = embedded(), embedded_roles()
        self.rankers: dict[str, Ranker] = {
            "requirements": RequirementRanker(self.model),
            "source": SourceRanker(),
            "paper": PaperRanker(self.model),
        }

    def run(self, sample: Sample, name: str) -> list[Step]:
        """One prompt by one method, image by image."""
        spec = parse(sample.prompt)
        attempts: list[Attempt] = []
        steps: list[Step] = []
        for attempt in self.attempts(sample, name):
            attempts.append(attempt)
            chosen = attempts[select(attempts)].generation.image
            evaluations = sum(a.cost.evaluations for a in attempts)
            calls = sum(a.cost.vlm_calls for a in attempts)
            steps.append(Step(judge(spec, chosen), evaluations, calls))
        return steps

    def attempts(self, sample: Sample, name: str) -> Iterator[Attempt]:
        """The pictures of one method, in order."""
        if name != BEST_OF_N:
            request, ranker = METHODS[name]
            request = replace(request, prompt=sample.prompt, seed=sample.seed)
            yield from correct(request, self.model, self.roles, self.rankers[ranker])
            return
        for i in range(IMAGES + EXTRA_SEEDS):
            request = Request(sample.prompt, seed=sample.seed + i, max_candidates=0)
            (attempt,) = correct(request, self.model, self.roles, SourceRanker())
            yield replace(attempt, index=i)
            if attempt.verdict.accepted:
                return


def after(steps: Sequence[dict[str, Any]], images: int) -> dict[str, Any]:
    """Where a sample stands after so many images; it stays there once it has stopped."""
    return steps[min(images, len(steps)) - 1]


def within(steps: Sequence[dict[str, Any]], budget: int) -> dict[str, Any]:
    """Where a sample stands when its next picture would exceed a number of evaluations."""
    return [step for step in steps if step["evaluations"] <= budget][-1]


def interval(good: int, of: int) -> str:
    """Share and Wilson's 95 % interval."""
    bounds = binomtest(good, of).proportion_ci(method="wilson")
    return f"{good / of:6.1%} [{bounds.low:.1%}, {bounds.high:.1%}]"


def report(records: Sequence[dict[str, Any]]) -> None:
    """Accuracy against images and evaluations by method, by tag, and prompt by prompt."""
    by_method: dict[str, dict[tuple[str, int], list[dict[str, Any]]]] = {}
    for r in records:
        by_method.setdefault(r["method"], {})[(r["prompt"], r["seed"])] = r["steps"]
    tag_of = {(r["prompt"], r["seed"]): r["tag"] for r in records}
    for name, samples in by_method.items():
        print(f"\n{name}, {len(samples)} samples")
        for images in range(1, IMAGES + 1 + EXTRA_SEEDS * (name == BEST_OF_N)):
            ends = [after(steps, images) for steps in samples.values()]
            means = [sum(end[k] for end in ends) / len(ends) for k in ("evaluations", "vlm_calls")]
            good = sum(end["correct"] for end in ends)
            print(
                f"  {images} images: {interval(good, len(ends))}, "
                f"{means[0]:.0f} evaluations, {means[1]:.1f} VLM calls"
            )
        for tag in TAGS:
            ends = [after(s, IMAGES) for key, s in samples.items() if tag_of[key] == tag]
            if ends:
                print(f"  {tag:24} {interval(sum(end['correct'] for end in ends), len(ends))}")
    if {"npc", BEST_OF_N} <= by_method.keys():
        compare(by_method["npc"], by_method[BEST_OF_N])


def compare(
    npc: dict[tuple[str, int], list[dict[str, Any]]],
    seeds: dict[tuple[str, int], list[dict[str, Any]]],
) -> None:
    """McNemar's exact test on the samples that both methods finished."""
    shared = npc.keys() & seeds.keys()
    print(f"\nnpc against {BEST_OF_N} on the same {len(shared)} prompts and seeds")
    for images in range(2, IMAGES + 1):
        pairs = [(after(npc[k], images), after(seeds[k], images)) for k in shared]
        won = sum(a["correct"] and not b["correct"] for a, b in pairs)
        lost = sum(b["correct"] and not a["correct"] for a, b in pairs)
        p = binomtest(won, won + lost).pvalue if won + lost else 1.0
        print(f"  {images} images: only npc right {won}, only seeds right {lost}, p = {p:.2g}")
    for budget in BUDGETS:
        ends = [[within(method[k], budget)["correct"] for k in shared] for method in (npc, seeds)]
        shares = (interval(sum(good), len(shared)) for good in ends)
        print(f"  up to {budget} evaluations: npc {next(shares)}, seeds {next(shares)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/minibench.jsonl"))
    parser.add_argument("--limit", type=int, default=280, help="prompts, spread over the tags")
    parser.add_argument("--repeat", type=int, default=0, help="which set of seeds, from 0")
    parser.add_argument("--methods", default=f"npc,npc-paper,{BEST_OF_N}")
    parser.add_argument("--report", action="store_true", help="report what is there, draw nothing")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    records = [json.loads(line) for line in lines]
    if not options.report:
        done = {(r["method"], r["prompt"], r["seed"]) for r in records}
        bench = Bench()
        with options.out.open("a") as out:
            for line in tqdm(load()[:: max(1, 280 // options.limit)]):
                sample = replace(line, seed=line.seed + REPEAT_SEEDS * options.repeat)
                for name in options.methods.split(","):
                    if (name, sample.prompt, sample.seed) not in done:
                        steps = [vars(step) for step in bench.run(sample, name)]
                        records.append({"method": name, **vars(sample), "steps": steps})
                        print(json.dumps(records[-1]), file=out, flush=True)
    report(records)


if __name__ == "__main__":
    main()

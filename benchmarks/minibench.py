"""MiniBench: the base model, the correction loop and best-of-n seeds, at equal numbers of images.

    python benchmarks/minibench.py --limit 280 --out runs/minibench.json

Every method uses the same verifier, and the judge (classical vision) scores what each one chose;
the loop never consults the judge. Finished samples are kept in ``--out`` and not drawn again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from scipy.stats import binomtest
from tqdm import tqdm

from npcorrect.loop import correct, select
from npcorrect.mini.bench import Sample, load
from npcorrect.mini.data import TAGS
from npcorrect.mini.embedded import embedded
from npcorrect.mini.grammar import parse
from npcorrect.mini.reader import judge
from npcorrect.mini.vlm import embedded_roles
from npcorrect.ranking import PaperRanker, Ranker, SourceRanker
from npcorrect.types import Attempt, Request


def methods(images: int) -> dict[str, tuple[Request, str]]:
    """Settings of the loop by the name of the method, and its ranker."""
    k = images - 1
    return {
        "npc": (Request("", max_candidates=k), "source"),
        "npc-paper": (Request("", max_candidates=k, rule="paper", true_cfg_scale=1.8), "paper"),
    }


class Bench:
    """The model and the roles, loaded once."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.model, self.roles = embedded(), embedded_roles()
        self.rankers: dict[str, Ranker] = {
            "source": SourceRanker(),
            "paper": PaperRanker(self.model),
        }

    def run(self, sample: Sample, name: str) -> dict[str, object]:
        """One prompt by one method: what the judge says, and what it cost."""
        attempts = list(self.attempts(sample, name))
        best = attempts[select(attempts)]
        return {
            "method": name,
            "seed": sample.seed,
            "tag": sample.tag,
            "base": judge(parse(sample.prompt), attempts[0].generation.image),
            "correct": judge(parse(sample.prompt), best.generation.image),
            "images": len(attempts),
            "evaluations": sum(a.generation.evaluations for a in attempts),
            "tried": [
                [a.ranked.candidate.source, a.verdict.accepted] for a in attempts if a.ranked
            ],
        }

    def attempts(self, sample: Sample, name: str) -> Iterator[Attempt]:
        """The pictures of one method, in order."""
        if name != "best-of-n":
            request, ranker = methods(self.images)[name]
            request = replace(request, prompt=sample.prompt, seed=sample.seed)
            yield from correct(request, self.model, self.roles, self.rankers[ranker])
            return
        for i in range(self.images):
            request = Request(sample.prompt, seed=sample.seed + 100_000 * i, max_candidates=0)
            (attempt,) = correct(request, self.model, self.roles, SourceRanker())
            yield replace(attempt, index=i)
            if attempt.verdict.accepted:
                return


def interval(good: int, of: int) -> str:
    """Share and Wilson's 95 % interval."""
    bounds = binomtest(good, of).proportion_ci(method="wilson")
    return f"{good / of:6.1%} [{bounds.low:.1%}, {bounds.high:.1%}]"


def report(records: list[dict[str, object]]) -> None:
    """Accuracy by method, and by tag."""
    for name in sorted({str(r["method"]) for r in records}):
        mine = [r for r in records if r["method"] == name]
        n = len(mine)
        images, work = (sum(int(str(r[k])) for r in mine) / n for k in ("images", "evaluations"))
        base, after = (sum(bool(r[k]) for r in mine) for k in ("base", "correct"))
        print(f"{name:10} n={n} base {interval(base, n)} chosen {interval(after, n)} ", end="")
        print(f"images {images:.2f} evaluations {work:.0f}")
        tags = {t: [bool(r["correct"]) for r in mine if r["tag"] == t] for t in TAGS}
        print("          ", {t: f"{sum(v)}/{len(v)}" for t, v in tags.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/minibench.json"))
    parser.add_argument("--limit", type=int, default=280, help="prompts, spread over the tags")
    parser.add_argument("--images", type=int, default=6, help="images a prompt, at most")
    parser.add_argument("--methods", default="npc,npc-paper,best-of-n")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    records = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {(r["method"], r["seed"]) for r in records}
    samples = load()[:: max(1, 280 // options.limit)]
    bench = Bench(options.images)
    for sample in tqdm(samples):
        for name in options.methods.split(","):
            if (name, sample.seed) not in done:
                records.append(bench.run(sample, name))
        options.out.write_text(json.dumps(records))
    report(records)


if __name__ == "__main__":
    main()

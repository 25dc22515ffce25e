"""What redraws a failed picture best: the study behind the defaults of the embedded model.

    python benchmarks/redraws.py redraws --device cuda
    python benchmarks/redraws.py policies --device cuda --json runs/policies.json

Prompts are the tuning set of MiniBench. ``redraws`` draws each plainly with ``--seeds`` seeds and
redraws up to ``--cases`` failed pictures of each once by every remedy. ``policies`` begins with the
first ``--cases`` pictures and draws up to eight of each, until the verifier's network accepts one.

Pictures are drawn in batches on the networks themselves, as FluxPipeline draws them; the negative
is in the unconditional branch's place, ``v = v(n) + scale (v(p) - v(n))``, from the redrawing's
first step on. A redrawing begins with noise, or with the noised original. The verifier's network
says what failed. What is *right* it says too, or template matching with ``--judge template``.

A missing thing is a fault of the count; a picture with faults of two kinds is in both columns. A
prompt is *hard* where at most 20 % of its plain pictures are right, *easy* above 60 %. *Kept* are
the shares of the original's right things (of kinds that no failed claim is about) that stand in the
same cell in the same colour, of cells that show what they showed, and of grounds that are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.redraw_faults import faults, kept, negatives
from benchmarks.redraw_report import IMAGES, Row, level, policies_tables, remedies_table, share
from benchmarks.redraw_studio import STEPS, Drawn, Job, Studio
from npcorrect.evaluation.benchmarks.base import Sample
from npcorrect.evaluation.benchmarks.mini_bench import MiniBench
from npcorrect.mini.model import WEIGHTS, load_pipeline
from npcorrect.mini.parts import load_weights
from npcorrect.mini.verifier import CellReader

SEED_STEP = 10
"""Between two seeds of one prompt; those between are for redrawings with new noise."""


@dataclass(frozen=True)
class Remedy:
    """How a failed picture is drawn again; without a ``negative``, by its prompt alone.

    ``negative`` is a key of :func:`negatives`, ``scale`` the true scale. From step ``start`` on the
    noised original is denoised, from 0 on noise alone; the negative acts up to before ``stop``.
    """

    negative: str | None
    scale: float = 1.0
    start: int = 0
    stop: int = 0
    new_noise: bool = False
    but_counts: bool = False
    """Whether it acts without its negative where the original's faults are of count alone."""

    @property
    def name(self) -> str:
        """The remedy in words."""
        begun = f"original at step {self.start}" if self.start else "noise"
        noise = f"{'new' if self.new_noise else 'same'} seed, {begun}"
        if self.negative is None:
            return noise
        return f"{self.negative}, scale {self.scale:g}, steps {self.start}..{self.stop}; {noise}"


NEW_SEED = Remedy(None, new_noise=True)
DRAWN = Remedy("as drawn", 8, 2, 4)
"""The embedded model's default."""
FRESH = replace(DRAWN, new_noise=True)
TEXTS = ("as drawn", "targeted", "caption", "empty", "another's", "remarks")
ACTING = (
    *((3, 0, 4), (3, 1, 6), (5, 0, 2), (5, 0, 4), (5, 1, 3), (5, 1, 4), (5, 1, 6), (5, 2, 4)),
    *((5, 2, 6), (8, 0, 1), (8, 0, 2), (8, 1, 2), (8, 1, 3), (8, 2, 3), (8, 2, 4), (8, 2, 5)),
    *((8, 3, 5), (12, 0, 1), (12, 1, 2), (12, 2, 3), (12, 2, 4)),
)
"""Scales, and the steps in which the negative acts; with the first of them the redrawing begins."""
REMEDIES = (
    NEW_SEED,
    *(Remedy(text, scale, 0, STEPS) for text, scale in product(TEXTS, (1.8, 3, 5))),
    *(Remedy("as drawn", *acting, new) for new, acting in product((False, True), ACTING)),
    *(Remedy("targeted", *acting) for acting in ((3, 1, 6), (5, 0, 4), (8, 2, 4))),
)
POLICIES: dict[str, tuple[Remedy, ...]] = {
    "best of n": (NEW_SEED,),
    "same seed first": (DRAWN, *[replace(FRESH, but_counts=True)] * (IMAGES - 2)),
    "the same, counts too": (DRAWN, *[FRESH] * (IMAGES - 2)),
    "fresh": (FRESH,),
    "keep": (
        DRAWN,
        replace(DRAWN, negative="targeted"),
        replace(DRAWN, negative="caption"),
        replace(DRAWN, scale=12),
    ),
    "static": (Remedy("remarks", 3, 0, STEPS, new_noise=True),),
    "no negatives": (Remedy(None, start=2, new_noise=True),),
}
"""The remedies of the second picture and those after it, in turn; it is always the first one whose
faults are named, and that is noised."""


@dataclass(frozen=True)
class Case:
    """A plain picture, and the share of its prompt's plain pictures that are right."""

    prompt: str
    seed: int
    drawn: Drawn
    ease: float

    def job(self, remedy: Remedy, negative: str, number: int = 1) -> Job:
        """Its redrawing by a remedy, the ``number``-th of it."""
        if remedy.but_counts and faults(self.prompt, self.drawn.scene) == {"count"}:
            remedy, negative = replace(remedy, stop=remedy.start), ""
        return Job(
            self.prompt,
            self.seed + number * remedy.new_noise,
            negative,
            remedy.scale,
            remedy.start,
            remedy.stop,
            self.drawn.tokens if remedy.start else None,
        )


def row(way: str, case: Case, job: Job, drawn: Drawn, number: int = 1) -> Row:
    first = case.drawn.scene
    return Row(
        way,
        case.prompt,
        case.seed,
        number,
        job.negative,
        job.evaluations,
        drawn.accepted,
        drawn.right,
        level(case.ease),
        tuple(sorted(faults(case.prompt, first))),
        kept(case.prompt, first, drawn.scene),
    )


def plain(studio: Studio, samples: Sequence[Sample], seeds: int) -> list[list[Case]]:
    """The plain pictures of each prompt."""
    jobs = [Job(s.prompt, s.seed + n * SEED_STEP) for s in samples for n in range(seeds)]
    pairs = [*zip(jobs, studio.draw(jobs, "plain"), strict=True)]
    groups = []
    for first in range(0, len(pairs), seeds):
        group = pairs[first : first + seeds]
        ease = sum(drawn.right for _, drawn in group) / seeds
        groups.append([Case(job.prompt, job.seed, drawn, ease) for job, drawn in group])
    return groups


def redraws(studio: Studio, groups: Sequence[Sequence[Case]], most: int) -> list[Row]:
    """Up to ``most`` failed pictures of each prompt, redrawn once by every remedy."""
    cases = [c for g in groups for c in [c for c in g if not c.drawn.accepted][:most]]
    texts = [negatives(case.prompt, case.drawn.scene) for case in cases]
    for n, text in enumerate(texts):
        text["another's"] = texts[(n + len(texts) // 2) % len(texts)]["targeted"]
    rows = []
    for remedy in REMEDIES:
        jobs = [
            case.job(remedy, text[remedy.negative] if remedy.negative else "")
            for case, text in zip(cases, texts, strict=True)
        ]
        drawn = studio.draw(jobs, remedy.name)
        rows += [row(remedy.name, *made) for made in zip(cases, jobs, drawn, strict=True)]
    return rows


def policies(studio: Studio, groups: Sequence[Sequence[Case]], most: int) -> list[Row]:
    """The first ``most`` pictures of each prompt under every policy, the plain ones included."""
    cases = [case for group in groups for case in group[:most]]
    return [r for name, remedies in POLICIES.items() for r in follow(studio, name, remedies, cases)]


def follow(
    studio: Studio, name: str, remedies: Sequence[Remedy], cases: Sequence[Case]
) -> Iterator[Row]:
    """The pictures of all cases until the verifier accepts one, remedy after remedy."""
    jobs = [Job(case.prompt, case.seed) for case in cases]
    drawn = [case.drawn for case in cases]
    for number in range(IMAGES):
        if number:
            remedy = remedies[(number - 1) % len(remedies)]
            jobs = [case.job(remedy, _negative(remedy, case), number) for case in cases]
            drawn = studio.draw(jobs, f"{name}, picture {number + 1}")
        made = [*zip(cases, jobs, drawn, strict=True)]
        for case, job, new in made:
            yield row(name, case, job, new, number)
        cases = [case for case, _, new in made if not new.accepted]


def _negative(remedy: Remedy, case: Case) -> str:
    return negatives(case.prompt, case.drawn.scene)[remedy.negative] if remedy.negative else ""


PARTS = {"redraws": (redraws, remedies_table), "policies": (policies, policies_tables)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=16, help="plain pictures of each prompt")
    parser.add_argument("--cases", type=int, default=2, help="of them, pictures to go on from")
    parser.add_argument("--limit", type=int, default=320, help="prompts, evenly over the tags")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--judge", choices=["network", "template"], default="network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every redrawing's row")
    options = parser.parse_args()
    reader = CellReader()
    load_weights(reader, WEIGHTS / "verifier.safetensors")
    pipeline = load_pipeline().to(options.device)
    studio = Studio(pipeline, reader.eval().to(options.device), options.judge == "template")
    samples = MiniBench(tuning=True).samples()
    samples = samples[:: max(len(samples) // options.limit, 1)][: options.limit]
    groups = plain(studio, samples, options.seeds)
    study, table = PARTS[options.part]
    rows = study(studio, groups, options.cases)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    print(f"Plain pictures: {share([c.drawn.right for g in groups for c in g])} right.\n")
    print(table(rows))


if __name__ == "__main__":
    main()

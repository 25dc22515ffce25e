"""What redraws a failed picture best: the study behind the defaults of the embedded model.

    python benchmarks/redraws.py redraws --device cuda
    python benchmarks/redraws.py policies --device cuda --json runs/policies.json

Prompts are the tuning set of MiniBench. ``redraws`` draws each plainly with ``--seeds`` seeds and
redraws up to three failed pictures of each once by every remedy. ``policies`` begins with the same
pictures and draws up to eight of each, until the verifier's network accepts one.

Pictures are drawn in batches on the networks themselves, as FluxPipeline draws them; the negative
is in the unconditional branch's place, ``v = v(n) + scale (v(p) - v(n))``, from the redrawing's
first step to the end of its window, a share of all steps. A redrawing begins with noise, or with
the noised original. The verifier's network says what failed. What is *right* it says too, or
template matching with ``--judge template``.

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

FAILED_SEEDS = 3
SEED_STEP = 10
"""Between two seeds of one prompt; those between are for redrawings with new noise."""


@dataclass(frozen=True)
class Remedy:
    """How a failed picture is drawn again; without a ``negative``, by its prompt alone.

    ``negative`` is a key of :func:`negatives`, ``scale`` the true scale, ``window`` a share of the
    steps. ``start`` is the first step, from which on the noised original is denoised; 0 begins with
    noise.
    """

    negative: str | None = None
    scale: float = 3.0
    window: float = 1 / 2
    start: int = 0
    new_noise: bool = False

    @property
    def name(self) -> str:
        """The remedy in words."""
        begun = f"original at step {self.start}" if self.start else "noise"
        noise = f"{'new' if self.new_noise else 'same'} seed, {begun}"
        if self.negative is None:
            return noise
        return f"{self.negative}, scale {self.scale:g}, steps 0..{self.stop}; {noise}"

    @property
    def stop(self) -> int:
        """The first step that the negative no longer acts in."""
        return max(1, round(self.window * STEPS)) if self.negative else 0


NEW_SEED = Remedy(new_noise=True)
DRAWN = Remedy("as drawn")
BACK = replace(DRAWN, start=1)
TEXTS = ("as drawn", "targeted", "caption", "empty", "another's", "remarks")
REMEDIES = (
    NEW_SEED,
    *(Remedy(text, scale) for text, scale in product(TEXTS, (1.8, 3, 5))),
    *(
        Remedy(text, window=share)
        for text, share in product(("as drawn", "targeted"), (1, 3 / 50, 1 / 3))
    ),
    *(
        replace(DRAWN, start=start, new_noise=new)
        for start, new in product((1, 2, 3, 4), (False, True))
    ),
)
POLICIES: dict[str, tuple[Remedy, ...]] = {
    "best of n": (NEW_SEED,),
    "same seed first": (BACK, *[replace(BACK, new_noise=True)] * (IMAGES - 2)),
    "fresh": (replace(DRAWN, window=1 / 3, new_noise=True),),
    "keep": (
        BACK,
        replace(BACK, negative="targeted"),
        replace(BACK, negative="caption"),
        replace(BACK, scale=5),
    ),
    "static": (Remedy("remarks", new_noise=True),),
    "no negatives": (replace(BACK, negative=None, new_noise=True),),
}
"""The remedies of the second picture and those after it, in turn; negatives name what is wrong with
the last picture, and it is always the first one that is noised."""


@dataclass(frozen=True)
class Case:
    """A plain picture, and the share of its prompt's plain pictures that are right."""

    prompt: str
    seed: int
    drawn: Drawn
    ease: float

    def job(self, remedy: Remedy, negative: str, number: int = 1) -> Job:
        """Its redrawing by a remedy, the ``number``-th of it."""
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


def redraws(studio: Studio, groups: Sequence[Sequence[Case]]) -> list[Row]:
    """Some failed pictures of each prompt, redrawn once by every remedy."""
    cases = [c for g in groups for c in [c for c in g if not c.drawn.accepted][:FAILED_SEEDS]]
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


def policies(studio: Studio, groups: Sequence[Sequence[Case]]) -> list[Row]:
    """Every picture under every policy, the plain ones included."""
    cases = [case for group in groups for case in group]
    return [r for name, remedies in POLICIES.items() for r in follow(studio, name, remedies, cases)]


def follow(
    studio: Studio, name: str, remedies: Sequence[Remedy], cases: Sequence[Case]
) -> Iterator[Row]:
    """The pictures of all cases until the verifier accepts one, remedy after remedy."""
    rejected = [(case, case.drawn) for case in cases]
    jobs = [Job(case.prompt, case.seed) for case in cases]
    for number in range(IMAGES):
        if number:
            remedy = remedies[(number - 1) % len(remedies)]
            jobs = [
                case.job(remedy, _negative(remedy, case, last), number) for case, last in rejected
            ]
            drawn = studio.draw(jobs, f"{name}, picture {number + 1}")
            rejected = [(case, new) for (case, _), new in zip(rejected, drawn, strict=True)]
        for (case, new), job in zip(rejected, jobs, strict=True):
            yield row(name, case, job, new, number)
        rejected = [(case, new) for case, new in rejected if not new.accepted]


def _negative(remedy: Remedy, case: Case, last: Drawn) -> str:
    return negatives(case.prompt, last.scene)[remedy.negative] if remedy.negative else ""


PARTS = {"redraws": (redraws, remedies_table), "policies": (policies, policies_tables)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=16, help="plain pictures of each prompt")
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
    rows = study(studio, groups)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    print(f"Plain pictures: {share([c.drawn.right for g in groups for c in g])} right.\n")
    print(table(rows))


if __name__ == "__main__":
    main()

"""Does attention explain why negatives work, and can text alone tell which will? Makes the records.

    python benchmarks/attention_study.py --out runs/attention
    python benchmarks/attention_study.py --out runs/attention --report

Pictures that fail, one of each prompt, are redrawn from the same seed by two rules, with every
negative that the rules propose, with the empty text, and with negatives proposed for another
picture; each redraw is traced and judged by template matching. ``tuning`` prompts are for choosing,
``minibench`` ones for the final check. Each finished picture is one line of ``redraws.jsonl``, and
is not drawn again. The second command, and the end of the first, renews the tables of
docs/why-it-works.md and its figure from the records.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from attention_report import write_report
from PIL.Image import Image
from torch import Tensor
from tqdm import tqdm

from npcorrect.analysis.measures import over_blocks, released_text
from npcorrect.analysis.spans import prompt_tokens
from npcorrect.analysis.trace import Attention, trace
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.mini.bench import Sample, load, make
from npcorrect.mini.checklist import requirements, satisfied
from npcorrect.mini.embedded import embedded
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import judge, read
from npcorrect.mini.roles import embedded_roles
from npcorrect.proposing import clean
from npcorrect.records import Checklist, Drawing, Request
from npcorrect.vlm.roles import Roles

PLAIN: dict[str, Any] = {"steps": 24, "scale": 3.5, "strength": 1.0, "looks": 0}
RULES: dict[str, dict[str, Any]] = {
    "extra": PLAIN | {"rule": "extra", "negative_scale": 1.0, "window": 1.0},
    "paper": PLAIN | {"rule": "paper", "window": 3 / 50},
}
"""One negative throughout beside plain guidance, and the paper's in its window in place of the
empty prompt. Without a negative both are plain guidance, so that they redraw the same pictures."""
FAILURES = {"tuning": 200, "minibench": 80}
"""Failed pictures to redraw, by set of prompts."""
FIRST_TUNING = 7
REPEATS, REPEAT_SEEDS = 4, 200
"""Seeds that a prompt of MiniBench is drawn with until one fails, and what is added for each;
seeds of two prompts are 1000 apart."""
CANDIDATES = 8
BATCH = 16
DIGITS = 6


@dataclass(frozen=True)
class Failure:
    """A picture that the judge and the verifier reject, and what the rules propose for it."""

    tag: str
    prompt: str
    seed: int
    failed: tuple[str, ...]
    candidates: tuple[tuple[str, str], ...]
    """Source and negative."""


class Study:
    """The model, the roles, and the records made so far."""

    def __init__(self, out: Path) -> None:
        self.model: PipelineModel = embedded()
        self.roles: Roles = embedded_roles()
        self._out = out
        out.mkdir(parents=True, exist_ok=True)

    def failures(self, which: str) -> list[Failure]:
        """Failed originals of a set of prompts, drawn once and remembered."""
        path = self._out / f"failures-{which}.json"
        if not path.exists():
            found = list(self._find_failures(which))
            path.write_text(json.dumps([vars(failure) for failure in found]))
        return [
            Failure(**{k: _tuples(v) for k, v in each.items()})
            for each in json.loads(path.read_text())
        ]

    def _find_failures(self, which: str) -> Iterator[Failure]:
        """At most one of each prompt, so that they are independent of one another."""
        found: set[str] = set()
        bar = tqdm(total=FAILURES[which], desc=f"originals, {which}")
        for samples in minibench() if which == "minibench" else tuning():
            for group in _groups([s for s in samples if s.prompt not in found], BATCH):
                drawings = [self._drawing("extra", s.prompt, s.seed, None) for s in group]
                for sample, drawn in zip(group, self.model.draw(drawings), strict=True):
                    failure = self._failure(sample, drawn.image)
                    if failure is not None and len(found) < FAILURES[which]:
                        found.add(sample.prompt)
                        bar.update()
                        yield failure
                if len(found) >= FAILURES[which]:
                    return

    def _failure(self, sample: Sample, image: Image) -> Failure | None:
        checklist = self.roles.checklister.checklist(sample.prompt)
        verdict = self.roles.verifier.verify(image, checklist)
        if judge(parse(sample.prompt), image) or verdict.accepted is not False:
            return None
        caption = self.roles.captioner.caption(image)
        proposed = self.roles.proposer.propose(checklist, verdict, caption, CANDIDATES)
        return Failure(
            sample.tag,
            sample.prompt,
            sample.seed,
            tuple(check.requirement.id for check in verdict.checks if check.passed is False),
            tuple((candidate.source, candidate.negative_prompt) for candidate in proposed),
        )

    def redraw(self, which: str, rule: str) -> None:
        """Redraw all failures of a set with all negatives that are not recorded yet."""
        failures = self.failures(which)
        path = self._out / "redraws.jsonl"
        done = {_key(json.loads(line)) for line in _whole_lines(path)}
        todo = [job for job in _jobs(failures, which, rule) if _key(job) not in done]
        plain = [job for job in todo if job["negative"] is None]
        steered = [job for job in todo if job["negative"] is not None]
        with path.open("a") as out:
            groups = [*_groups(plain, BATCH), *_groups(steered, BATCH)]
            for group in tqdm(groups, desc=f"redraws, {which}, {rule}"):
                for record in self._records(rule, group):
                    print(json.dumps(record), file=out, flush=True)

    def _records(self, rule: str, jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        drawings = [
            self._drawing(rule, job["prompt"], job["seed"], job["negative"]) for job in jobs
        ]
        with trace(self.model.stock.denoiser) as traced:
            drawn = self.model.draw(drawings)
        for number, (job, generation) in enumerate(zip(jobs, drawn, strict=True)):
            spec, scene = parse(job["prompt"]), read(generation.image)
            named = frozenset(group.kind for group in spec.groups)
            met = [satisfied(claim, scene, named) for claim in requirements(spec)]
            yield job | {
                "correct": judge(spec, generation.image),
                "met": float(np.mean(met)),
                "words": self._words(job["prompt"], traced.of(number)),
                "released": _released(traced.of(number)),
            }

    def _words(self, prompt: str, attention: Attention) -> list[list[float]]:
        """Attention probability of each token of the prompt at each step, over all blocks."""
        places = [token.place for token in prompt_tokens(self.model, prompt)]
        text_ST = over_blocks(attention.text_SBT)[:, places]
        return _rounded(text_ST)

    def _drawing(self, rule: str, prompt: str, seed: int, negative: str | None) -> Drawing:
        plan = self.model.plan(Request(prompt, seed=seed, **RULES[rule]))
        return plan.drawing(0, negative)


def tuning() -> Iterator[list[Sample]]:
    """Prompts for tuning, none of them MiniBench's, in rounds of new ones."""
    known = {sample.prompt for sample in load()}
    for seed in count(FIRST_TUNING):
        new = {s.prompt: s for s in make(seed, frozenset(known)) if s.prompt not in known}
        known |= new.keys()
        yield random.Random(0).sample(list(new.values()), len(new))


def minibench() -> Iterator[list[Sample]]:
    """MiniBench's prompts, each once, in rounds of other seeds."""
    prompts = {sample.prompt: sample for sample in load()}
    for repeat in range(REPEATS):
        shuffled = random.Random(0).sample(list(prompts.values()), len(prompts))
        yield [replace(sample, seed=sample.seed + REPEAT_SEEDS * repeat) for sample in shuffled]


def _jobs(failures: Sequence[Failure], which: str, rule: str) -> Iterator[dict[str, Any]]:
    """What to draw: no negative, the empty one, the proposals, and two made for other pictures."""
    rng = random.Random(1)
    for failure in failures:
        own = {negative for _, negative in failure.candidates}
        others = [
            c for other in failures if other.prompt != failure.prompt for c in other.candidates
        ]
        asked = Checklist(failure.prompt, requirements(parse(failure.prompt)))
        short = [n for _, n in others if n not in own and len(n.split()) <= 3]
        phrases = [n for n in short if clean(n, asked)]
        captions = [n for _, n in others if n not in own and len(n.split()) > 6]
        strange = (("random phrase", rng.choice(phrases)), ("random caption", rng.choice(captions)))
        for source, negative in (("none", None), ("empty", ""), *failure.candidates, *strange):
            yield {
                "set": which,
                "rule": rule,
                "tag": failure.tag,
                "prompt": failure.prompt,
                "seed": failure.seed,
                "failed": list(failure.failed),
                "source": source,
                "negative": negative,
            }


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[k] for k in ("set", "rule", "prompt", "seed", "source", "negative"))


def _whole_lines(path: Path) -> Iterable[str]:
    """The lines of a file; what was written of one more when the program ended is taken away."""
    if not path.exists():
        return ()
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return whole.splitlines()


def _released(attention: Attention) -> list[list[float]]:
    """The released measure of each token of the text at each step, padding included."""
    return _rounded(released_text(attention.among_SBT, attention.blocks))


def _rounded(values_ST: Tensor) -> list[list[float]]:
    return [[round(value, DIGITS) for value in row] for row in values_ST.tolist()]


def _groups(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/attention"))
    parser.add_argument("--report", action="store_true", help="report what is there, draw nothing")
    options = parser.parse_args()
    if not options.report:
        study = Study(options.out)
        for which in FAILURES:
            for rule in RULES:
                study.redraw(which, rule)
    write_report(options.out / "redraws.jsonl")


if __name__ == "__main__":
    main()

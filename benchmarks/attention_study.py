"""Does attention explain why negatives work, and can text alone tell which will? Makes the records.

    python benchmarks/attention_study.py --out runs/attention
    python benchmarks/attention_study.py --out runs/attention --report

Pictures that fail, one of each prompt, are redrawn from noise and the same seed by rule ``paper``
on two schedules, with every negative that the embedded proposer has, with the empty text, and with
three that are not about their fault; each redraw is traced and judged by template matching. The
prompts are neither MiniBench's nor those for tuning. Each finished picture is one line of
``redraws.jsonl``, and is not drawn again. The second command, and the end of the first, renews the
tables of docs/why-it-works.md and its figure from the records.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
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
from npcorrect.evaluation.benchmarks.mini_bench import TUNING_SEED
from npcorrect.mini.bench import Sample, load, make
from npcorrect.mini.checklist import requirements, satisfied
from npcorrect.mini.embedded import embedded
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import judge, read
from npcorrect.mini.language import Group
from npcorrect.mini.proposer import as_drawn
from npcorrect.mini.roles import embedded_roles
from npcorrect.mini.scene import COLORS, MAX_THINGS
from npcorrect.proposing import clean
from npcorrect.records import Checklist, Drawing, Request
from npcorrect.vlm.roles import Roles

FROM_NOISE: dict[str, Any] = {"rule": "paper", "strength": 1.0, "looks": 0}
RULES: dict[str, dict[str, Any]] = {
    "long": FROM_NOISE | {"scale": 3.0, "negative": 0.5},
    "released": FROM_NOISE | {"scale": 1.8, "negative": 3 / 50},
}
"""Rule ``paper`` over half of the steps, and on the released schedule."""
FAILURES = 120
"""Failed pictures to redraw."""
CANDIDATES = 5
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
    """Kind and negative."""


class Study:
    """The model, the roles, and the records made so far."""

    def __init__(self, out: Path) -> None:
        self.model: PipelineModel = embedded()
        self.roles: Roles = embedded_roles()
        self._out = out
        out.mkdir(parents=True, exist_ok=True)

    def failures(self) -> list[Failure]:
        """Failed originals, drawn once and remembered."""
        path = self._out / "failures.json"
        if not path.exists():
            found = list(islice(self._find_failures(), FAILURES))
            path.write_text(json.dumps([vars(failure) for failure in found]))
        return [
            Failure(**{k: _tuples(v) for k, v in each.items()})
            for each in json.loads(path.read_text())
        ]

    def _find_failures(self) -> Iterator[Failure]:
        for group in tqdm(list(_groups(prompts(), BATCH)), desc="originals"):
            drawings = [self._drawing("long", s.prompt, s.seed, None) for s in group]
            for sample, drawn in zip(group, self.model.draw(drawings), strict=True):
                if failure := self._failure(sample, drawn.image):
                    yield failure

    def _failure(self, sample: Sample, image: Image) -> Failure | None:
        checklist = self.roles.checklister.checklist(sample.prompt)
        verdict = self.roles.verifier.verify(image, checklist)
        if judge(parse(sample.prompt), image) or verdict.accepted is not False:
            return None
        caption = self.roles.captioner.caption(image)
        proposed = self.roles.proposer.propose(checklist, verdict, caption, CANDIDATES)
        drawn = as_drawn(checklist, verdict)
        return Failure(
            sample.tag,
            sample.prompt,
            sample.seed,
            tuple(check.requirement.id for check in verdict.checks if check.passed is False),
            tuple(("as drawn" if c == drawn else c.source, c.negative_prompt) for c in proposed),
        )

    def redraw(self, rule: str) -> None:
        """Redraw all failures with all negatives that are not recorded yet."""
        path = self._out / "redraws.jsonl"
        done = {_key(json.loads(line)) for line in _whole_lines(path)}
        todo = [job for job in _jobs(self.failures(), rule) if _key(job) not in done]
        plain = [job for job in todo if job["negative"] is None]
        steered = [job for job in todo if job["negative"] is not None]
        with path.open("a") as out:
            groups = [*_groups(plain, BATCH), *_groups(steered, BATCH)]
            for group in tqdm(groups, desc=f"redraws, {rule}"):
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


def prompts() -> list[Sample]:
    """Prompts by which nothing was chosen, in an order that mixes the tags."""
    known = frozenset(sample.prompt for sample in load())
    known |= {sample.prompt for sample in make(TUNING_SEED, known)}
    new = make(TUNING_SEED + 1, known)
    return random.Random(0).sample(new, len(new))


def another_fault(prompt: str, drawn: str, rng: random.Random) -> str:
    """The prompt with a colour or a number that was neither asked for nor ``drawn``."""
    asked = parse(prompt)
    group = rng.choice(asked.groups)
    seen = {other.kind: other for other in parse(drawn).groups}.get(group.kind, group)
    groups = tuple(_altered(one, seen, rng) if one is group else one for one in asked.groups)
    return replace(asked, groups=groups).text()


def _altered(group: Group, seen: Group, rng: random.Random) -> Group:
    if group.color:
        return replace(
            group, color=rng.choice([c for c in COLORS if c not in (group.color, seen.color)])
        )
    asked = group.count or 1
    near = range(max(asked - 2, 1), min(asked + 2, MAX_THINGS) + 1)
    return replace(group, count=rng.choice([n for n in near if n not in (asked, seen.count)]))


def _jobs(failures: Sequence[Failure], rule: str) -> Iterator[dict[str, Any]]:
    """What to draw: no negative, the empty one, the proposals, and three not about the fault."""
    rng = random.Random(1)
    for failure in failures:
        own = {negative for _, negative in failure.candidates}
        others = [
            c
            for other in failures
            if other is not failure
            for c in other.candidates
            if c[1] not in own
        ]
        asked = Checklist(failure.prompt, requirements(parse(failure.prompt)))
        phrases = [n for _, n in others if len(n.split()) <= 3 and clean(n, asked)]
        captions = [n for kind, n in others if kind == "combined" and len(n.split()) > 6]
        drawn = dict(failure.candidates).get("as drawn", failure.prompt)
        controls = (
            ("another fault", another_fault(failure.prompt, drawn, rng)),
            ("random phrase", rng.choice(phrases)),
            ("random caption", rng.choice(captions)),
        )
        for source, negative in (("none", None), ("empty", ""), *failure.candidates, *controls):
            yield {
                "rule": rule,
                "tag": failure.tag,
                "prompt": failure.prompt,
                "seed": failure.seed,
                "failed": list(failure.failed),
                "source": source,
                "negative": negative,
            }


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[k] for k in ("rule", "prompt", "seed", "source", "negative"))


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
        for rule in RULES:
            study.redraw(rule)
    write_report(options.out / "redraws.jsonl")


if __name__ == "__main__":
    main()

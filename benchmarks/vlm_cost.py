"""What a correction asks of a model: claims together and singly, briefly and whole, side by side.

Corrects prompts of MiniBench with a loopback server for eyes, which counts the requests. Text is
counted as four characters a token. Pictures are counted as pictures: what one costs is up to the
model. "Whole" asks every claim about every picture; otherwise redrawings are asked what failed
before, and no more once a claim fails. The verdicts of all ways are then compared.
Run from the repository's root: ``python -m benchmarks.vlm_cost --prompts 70``.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from PIL.Image import Image

from npcorrect.loop import correct
from npcorrect.mini.bench import load
from npcorrect.mini.embedded import embedded
from npcorrect.mini.roles import embedded_roles
from npcorrect.ranking import requirement_ranker
from npcorrect.records import Attempt, Checklist, Cost, Request, Verdict
from npcorrect.result import select
from npcorrect.settings import RoleSettings
from npcorrect.vlm import build
from npcorrect.vlm.roles import Roles, Verifier
from npcorrect.vlm.settings import VLMSettings
from npcorrect.vlm.verifier import Questions, VLMVerifier
from tests.vlm.loopback import Asked, Server, loopback, picture_tokens, text_tokens

ROLES = ("checklister", "verifier", "verifier_together", "observer", "captioner", "proposer")
WAYS: Mapping[str, tuple[Questions, bool]] = {
    "together": ("together", False),
    "together, whole": ("together", True),
    "single": ("single", False),
    "single, whole": ("single", True),
}
PAIRS = (("together", "together, whole"), ("single", "single, whole"), ("together", "single"))
Row = dict[str, float]


@dataclass(frozen=True)
class Whole:
    """A verifier that is asked everything about every picture."""

    verifier: Verifier

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        return self.verifier.verify(image, checklist)


@dataclass(frozen=True)
class Corrected:
    """The attempts of one correction, and what they took."""

    attempts: Sequence[Attempt]
    figures: Row

    @property
    def group(self) -> str:
        return "first picture accepted" if len(self.attempts) == 1 else "redrawn"


def figures(attempts: Sequence[Attempt], asked: Sequence[Asked]) -> Row:
    """What one correction took."""
    calls = Counter(a.role for a in asked)
    tokens = sum((attempt.cost for attempt in attempts), Cost()).usage.tokens
    read = sum(map(text_tokens, asked))
    return {
        **{f"calls of the {role}": calls[role] for role in ROLES},
        "calls": len(asked),
        "pictures drawn": len(attempts),
        "pictures sent": sum(len(a.images) for a in asked),
        "text tokens read": read,
        "text tokens written": tokens - read - sum(map(picture_tokens, asked)),
    }


def corrections(server: Server, roles: Roles, options: argparse.Namespace) -> list[Corrected]:
    """A correction of each prompt."""
    samples = load()[:: max(len(load()) // options.prompts, 1)][: options.prompts]
    model = embedded()
    ranker, done = requirement_ranker(model), []
    for sample in samples:
        server.asked.clear()
        request = Request(sample.prompt, seed=sample.seed, candidates=options.candidates)
        attempts = list(correct(request, model, roles, ranker))
        done.append(Corrected(attempts, figures(attempts, server.questions())))
    return done


def agreement(one: Sequence[Corrected], other: Sequence[Corrected]) -> str:
    """How far two ways of asking say the same of the same pictures, and choose the same."""
    pairs = [
        (a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x.attempts, y.attempts, strict=False)
        if a.generation.image == b.generation.image
    ]
    verdicts = sum(a.verdict.accepted == b.verdict.accepted for a, b in pairs)
    checks = [
        (x.passed, y.passed)
        for a, b in pairs
        for x, y in zip(a.verdict.checks, b.verdict.checks, strict=True)
        if not x.skipped and not y.skipped
    ]
    chosen = sum(select(a.attempts) == select(b.attempts) for a, b in zip(one, other, strict=True))
    return (
        f"{verdicts} of {len(pairs)} verdicts, {sum(x == y for x, y in checks)} of {len(checks)} "
        f"checks that both made, and {chosen} of {len(one)} chosen pictures are the same"
    )


def table(title: str, columns: Mapping[str, Sequence[Row]]) -> None:
    """The median, mean and range of each figure, a column for each way of asking."""
    print(f"\n{title}: " + ", ".join(f"{len(rows)} {way}" for way, rows in columns.items()))
    for name in next(iter(columns.values()))[0]:
        cells = []
        for way, rows in columns.items():
            values = [row[name] for row in rows]
            middle, mean = statistics.median(values), statistics.mean(values)
            cells.append(f"{way} {middle:g} (mean {mean:.1f}, {min(values):g} to {max(values):g})")
        print(f"  {name}: {'; '.join(cells)}")


def asked(way: str, options: argparse.Namespace) -> list[Corrected]:
    """All prompts corrected with one way of asking."""
    questions, whole = WAYS[way]
    with loopback() as server:
        settings = VLMSettings(RoleSettings(vlm=server.name, checklister=server.name, cache=False))
        with (
            build.roles(settings, embedded_roles()) as roles,
            build.model(server.name, settings) as vlm,
        ):
            verifier = VLMVerifier(vlm, questions=questions)
            roles = replace(roles, verifier=Whole(verifier) if whole else verifier)
            return corrections(server, roles, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=70)
    parser.add_argument("--candidates", type=int, default=5)
    options = parser.parse_args()
    done = {way: asked(way, options) for way in WAYS}
    for group in ("first picture accepted", "redrawn"):
        rows = {way: [c.figures for c in some if c.group == group] for way, some in done.items()}
        if all(rows.values()):
            table(group, rows)
    for one, other in PAIRS:
        print(f"{one} and {other}: {agreement(done[one], done[other])}")


if __name__ == "__main__":
    main()

"""What a correction asks of a model: claims asked together, and singly, side by side.

Corrects prompts of MiniBench with a loopback server for eyes, which counts the requests. Text is
counted as four characters a token. Pictures are counted as pictures: what one costs is up to the
model. Every picture that was drawn is then verified the other way too, and the verdicts compared.
Run from the repository's root: ``python -m benchmarks.vlm_cost --prompts 70``.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from npcorrect.loop import correct
from npcorrect.mini.bench import PER_TAG, load
from npcorrect.mini.embedded import embedded
from npcorrect.mini.vlm import embedded_roles
from npcorrect.ranking import requirement_ranker
from npcorrect.records import Attempt, Checklist, Cost, Request
from npcorrect.settings import RoleSettings
from npcorrect.vlm import build
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.settings import VLMSettings
from npcorrect.vlm.verifier import Questions, VLMVerifier
from tests.vlm.loopback import Asked, Server, loopback, picture_tokens, text_tokens

ROLES = ("checklister", "verifier", "verifier_together", "observer", "captioner", "proposer")
WAYS: tuple[Questions, ...] = get_args(Questions)
Row = dict[str, float]


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


def corrections(
    server: Server, roles: Roles, options: argparse.Namespace
) -> tuple[dict[str, list[Row]], list[Attempt]]:
    """What each correction took, by how it ended, and all pictures that were drawn."""
    samples = load()[:: max(7 * PER_TAG // options.prompts, 1)][: options.prompts]
    model = embedded()
    ranker, rows, drawn = requirement_ranker(model), defaultdict[str, list[Row]](list), []
    for sample in samples:
        server.asked.clear()
        request = Request(sample.prompt, seed=sample.seed, candidates=options.candidates, looks=0)
        attempts = list(correct(request, model, roles, ranker))
        group = "first picture accepted" if len(attempts) == 1 else "redrawn"
        rows[group].append(figures(attempts, server.questions()))
        drawn += attempts
    return rows, drawn


def agreement(drawn: Sequence[Attempt], other: VLMVerifier) -> str:
    """How many verdicts and checks are the same when each picture is verified the other way."""
    same, checks, of_checks = 0, 0, 0
    for attempt in drawn:
        pairs = tuple(check.requirement for check in attempt.verdict.checks)
        verdict = other.verify(attempt.generation.image, Checklist("", pairs))
        same += verdict.accepted == attempt.verdict.accepted
        both = zip(verdict.checks, attempt.verdict.checks, strict=True)
        checks += sum(one.passed == two.passed for one, two in both)
        of_checks += len(pairs)
    return f"{same} of {len(drawn)} verdicts and {checks} of {of_checks} checks are the same"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=70)
    parser.add_argument("--candidates", type=int, default=5)
    options = parser.parse_args()
    found: dict[Questions, dict[str, list[Row]]] = {}
    said = {}
    for way, other in zip(WAYS, reversed(WAYS), strict=True):
        with loopback() as server:
            settings = VLMSettings(
                RoleSettings(vlm=server.name, checklister=server.name, cache=False)
            )
            with (
                build.roles(settings, embedded_roles()) as roles,
                build.model(server.name, settings) as vlm,
            ):
                roles = replace(roles, verifier=VLMVerifier(vlm, questions=way))
                found[way], drawn = corrections(server, roles, options)
                said[way] = agreement(drawn, VLMVerifier(vlm, questions=other))
    for group in sorted(found[WAYS[0]].keys() & found[WAYS[1]].keys()):
        table(group, {way: found[way][group] for way in WAYS})
    for way, text in said.items():
        print(f"asked {way}, then the other way: {text}")


if __name__ == "__main__":
    main()

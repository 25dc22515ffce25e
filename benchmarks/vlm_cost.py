"""What a correction asks of a model: calls, pictures and tokens.

Corrects prompts of MiniBench with a loopback server for eyes, which counts the requests. Text is
counted as four characters a token. Pictures are counted as pictures: what one costs is up to the
model. Run from the repository's root: ``python -m benchmarks.vlm_cost --prompts 70``.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from npcorrect.loop import correct, finish
from npcorrect.mini.bench import PER_TAG, load
from npcorrect.mini.embedded import embedded
from npcorrect.mini.vlm import embedded_roles
from npcorrect.ranking import RequirementRanker
from npcorrect.records import Attempt, Checklist, Request
from npcorrect.vlm import build
from npcorrect.vlm.questions import instructions
from npcorrect.vlm.settings import VLMSettings
from tests.vlm.loopback import Asked, loopback, picture_tokens, text_tokens

ROLES = ("checklister", "verifier", "observer", "captioner", "proposer")
ROLE_OF = {instructions(role): role for role in ROLES}


def figures(
    request: Request, attempts: Sequence[Attempt], asked: Sequence[Asked]
) -> dict[str, float]:
    """What one correction took."""
    calls = Counter(ROLE_OF[a.system] for a in asked)
    tokens = finish(request, Checklist("", ()), attempts).cost.tokens
    read = sum(map(text_tokens, asked))
    return {
        **{f"calls of the {role}": calls[role] for role in ROLES},
        "calls": len(asked),
        "pictures drawn": len(attempts),
        "pictures sent": sum(len(a.images) for a in asked),
        "text tokens read": read,
        "text tokens written": tokens - read - sum(map(picture_tokens, asked)),
    }


def table(title: str, rows: Sequence[Mapping[str, float]]) -> None:
    print(f"\n{title}: {len(rows)}")
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        print(
            f"  {name}: median {statistics.median(values):g}, mean {statistics.mean(values):.1f}, "
            f"from {min(values):g} to {max(values):g}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=70)
    parser.add_argument("--candidates", type=int, default=5)
    options = parser.parse_args()
    samples = load()[:: max(7 * PER_TAG // options.prompts, 1)][: options.prompts]
    model = embedded()
    ranker, rows = RequirementRanker(model), defaultdict[str, list[dict[str, float]]](list)
    with loopback() as server:
        settings = VLMSettings(server.name, {"checklister": server.name}, cache=False)
        with build.roles(settings, embedded_roles()) as roles:
            server.asked.clear()
            for sample in samples:
                request = Request(
                    sample.prompt, sample.seed, max_candidates=options.candidates, looks=0
                )
                attempts = list(correct(request, model, roles, ranker))
                group = "first picture accepted" if len(attempts) == 1 else "redrawn"
                rows[group].append(figures(request, attempts, server.asked))
                server.asked.clear()
    for group, found in sorted(rows.items()):
        table(group, found)


if __name__ == "__main__":
    main()

"""What a correction asks of a model: calls, pictures and tokens, by role.

Corrects prompts of MiniBench with a loopback server for eyes, which counts the requests. Text is
counted as four characters a token. Pictures are counted as pictures: what one costs is up to the
model. Run from the repository's root: ``python -m benchmarks.vlm_cost --prompts 14``.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict

from tests.vlm.loopback import Asked, loopback

from npcorrect.loop import correct
from npcorrect.mini.bench import PER_TAG, load
from npcorrect.mini.embedded import embedded
from npcorrect.mini.vlm import embedded_roles
from npcorrect.ranking import RequirementRanker
from npcorrect.types import Request
from npcorrect.vlm import build
from npcorrect.vlm.asking import instructions
from npcorrect.vlm.settings import VLMSettings

ROLES = ("checklister", "verifier", "observer", "captioner", "proposer")


def text_tokens(asked: Asked) -> int:
    return (len(asked.system) + len(asked.text)) // 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=14)
    parser.add_argument("--candidates", type=int, default=5)
    options = parser.parse_args()
    samples = load()[:: max(7 * PER_TAG // options.prompts, 1)][: options.prompts]
    model, roles_of = embedded(), {instructions(role): role for role in ROLES}
    ranker, totals = RequirementRanker(model), defaultdict[str, list[float]](list)
    with loopback() as server:
        settings = VLMSettings(server.name, {"checklister": server.name}, cache=False)
        with build.roles(settings, embedded_roles()) as roles:
            for sample in samples:
                server.asked.clear()
                request = Request(
                    sample.prompt, sample.seed, max_candidates=options.candidates, looks=0
                )
                attempts = list(correct(request, model, roles, ranker))
                asked = list(server.asked)
                calls = Counter(roles_of.get(a.system, "probe") for a in asked)
                for role in (*ROLES, "probe"):
                    totals[f"calls of the {role}"].append(calls[role])
                totals["pictures drawn"].append(len(attempts))
                totals["pictures sent"].append(sum(len(a.images) for a in asked))
                totals["text tokens read"].append(sum(map(text_tokens, asked)))
                totals["all calls"].append(len(asked))
                print(sample.tag, len(attempts), dict(calls), flush=True)
    for name, values in totals.items():
        spread = statistics.quantiles(values, n=10) if len(values) > 1 else values
        print(
            f"{name}: median {statistics.median(values):g}, mean {statistics.mean(values):.1f}, "
            f"9 in 10 up to {spread[-1]:.0f}, most {max(values):g}"
        )


if __name__ == "__main__":
    main()

"""How much sooner a correction ends when the next picture is drawn while a server verifies.

Corrects one prompt that the miniature model never gets right, with a loopback server that takes
``--wait`` seconds for each reply, with and without overlap in turn. Run from the repository's root:
``python -m benchmarks.vlm_overlap``.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from time import perf_counter

from npcorrect.loop import correct
from npcorrect.mini.embedded import embedded
from npcorrect.mini.roles import embedded_roles
from npcorrect.ranking import requirement_ranker
from npcorrect.records import Request
from npcorrect.settings import RoleSettings
from npcorrect.vlm import build
from npcorrect.vlm.settings import VLMSettings
from tests.vlm.loopback import loopback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wait", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = embedded()
    ranker, ratios = requirement_ranker(model), []
    request = Request("a smaller cat and a smaller dog", candidates=5, looks=0)
    with loopback(wait=options.wait) as server:
        settings = VLMSettings(RoleSettings(vlm=server.name, proposer="rules", cache=False))
        for _ in range(options.rounds):
            seconds, drawn = [], set()
            for overlap in (False, True):
                # Roles remember what they were told; only fresh ones ask again.
                with build.roles(settings, embedded_roles()) as roles:
                    start = perf_counter()
                    ordered = replace(roles, overlap=overlap)
                    attempts = list(correct(request, model, ordered, ranker))
                    seconds.append(perf_counter() - start)
                drawn.add(tuple(attempt.generation.image.tobytes() for attempt in attempts))
            assert len(drawn) == 1
            ratios.append(seconds[1] / seconds[0])
            print(f"without {seconds[0]:.1f} s, with {seconds[1]:.1f} s", flush=True)
    print(
        f"with overlap the same {len(attempts)} pictures take {statistics.median(ratios):.2f} "
        f"of the time ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)"
    )


if __name__ == "__main__":
    main()

"""The orders of negatives that are compared: text-space scores and two that need none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from attention_statistics import Floats, Picture, Scores

from npcorrect.diffusion.base import TextEncoder
from npcorrect.ranking import (
    ALL_PARTS,
    SALIENT_PARTS,
    Ranker,
    paper_ranker,
    requirement_ranker,
    salient_ranker,
)
from npcorrect.records import Candidate


def score_of(ranker: Ranker, parts: Sequence[str] = ALL_PARTS) -> Scores:
    """A ranker's score, or the sum of some of its parts, in the order of the redraws."""

    def scores(picture: Picture) -> Floats:
        candidates = tuple(Candidate(r["negative"], r["source"]) for r in picture.proposed)
        by = {
            ranked.candidate: sum(value for name, value in ranked.parts if name in parts)
            for ranked in ranker.rank(picture.checklist, candidates)
        }
        return np.array([by[candidate] for candidate in candidates])

    return scores


def rankings(encoder: TextEncoder) -> dict[str, Scores]:
    """Every order that is compared, by name."""
    paper, required = paper_ranker(encoder), requirement_ranker(encoder)
    return {
        "the proposer's order": lambda p: -np.arange(float(len(p.proposed))),
        "longest first": lambda p: np.array(
            [len(r["negative"].split()) for r in p.proposed], float
        ),
        "`paper`": score_of(paper),
        "`paper`, without the last term": score_of(paper, SALIENT_PARTS),
        "`requirements`": score_of(required),
        "`salient`": score_of(salient_ranker(encoder)),
    }

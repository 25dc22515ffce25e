"""What failed in a picture of the embedded world, how to say it, and what a redrawing kept."""

from __future__ import annotations

from itertools import product

from npcorrect.mini.checklist import MiniChecklister
from npcorrect.mini.data import describe
from npcorrect.mini.language import REMARKS
from npcorrect.mini.proposer import as_drawn
from npcorrect.mini.scene import GRID, Scene, Thing
from npcorrect.mini.viewer import checks
from npcorrect.records import Checklist, Verdict

FAULTS = {
    "attribute": "colour",
    "count": "count",
    "object": "count",
    "relation": "place",
    "size": "size",
}
"""What each kind of claim is a fault of; a missing thing is one of the count."""


def verify(prompt: str, scene: Scene) -> tuple[Checklist, Verdict]:
    """What a prompt requires, and what the embedded verifier says of a scene that it has seen."""
    checklist = MiniChecklister().checklist(prompt)
    return checklist, Verdict(checks((scene, 1.0), checklist))


def faults(prompt: str, scene: Scene) -> set[str]:
    """The kinds of faults of a picture."""
    _, verdict = verify(prompt, scene)
    return {FAULTS[check.requirement.kind] for check in verdict.failed}


def negatives(prompt: str, scene: Scene) -> dict[str, str]:
    """Negative texts for a failed picture; the caption stands in for one that there is not.

    ``targeted`` names what was seen in place of each failed claim, all of them.
    """
    checklist, verdict = verify(prompt, scene)
    caption = describe(scene).text()
    drawn = as_drawn(checklist, verdict)
    seen = dict.fromkeys(check.observed for check in verdict.failed if check.observed)
    return {
        "as drawn": drawn.negative_prompt if drawn else caption,
        "targeted": ", ".join(seen) or caption,
        "caption": caption,
        "empty": "",
        "remarks": ", ".join(REMARKS[:2]),
    }


def right_things(prompt: str, scene: Scene) -> list[Thing]:
    """The things of a picture whose kinds the prompt names and no failed claim is about."""
    checklist, verdict = verify(prompt, scene)
    named = {claim.subject for claim in checklist.requirements}
    failed = [check.requirement for check in verdict.failed]
    wrong = {kind for claim in failed for kind in (claim.subject, claim.object)}
    return [thing for thing in scene.things if thing.kind in named - wrong]


def kept(prompt: str, before: Scene, after: Scene) -> dict[str, float | None]:
    """Shares of what is as it was: right things, cells, the ground.

    Things stand in the same cell in the same colour; None where none was right.
    """
    first, second = (
        {(t.row, t.column): (t.kind, t.color) for t in scene.things} for scene in (before, after)
    )
    places = [(thing.row, thing.column) for thing in right_things(prompt, before)]
    things = [first[place] == second.get(place) for place in places]
    grid = [*product(range(GRID), range(GRID))]
    return {
        "things": sum(things) / len(things) if things else None,
        "cells": sum(first.get(cell) == second.get(cell) for cell in grid) / len(grid),
        "grounds": float(before.ground == after.ground),
    }

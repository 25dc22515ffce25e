"""The negative of the embedded world: the prompt as it was drawn.

Where "a brown bus and a cup" shows a yellow bus, it is "one yellow bus and one cup". What prompt
and negative share cancels in ``v(p) - v(n)``, the direction of guidance, and what
is left is the fault alone, so that the rest of the picture stays.
"""

from __future__ import annotations

from dataclasses import replace

from npcorrect.errors import PromptError
from npcorrect.mini.grammar import parse
from npcorrect.mini.language import OPPOSITES, Group, Spec
from npcorrect.proposing import RuleProposer, distinct
from npcorrect.records import Candidate, Caption, Check, Checklist, Requirement, Verdict


class MiniProposer(RuleProposer):
    """Proposes the prompt as it was drawn first, then by the rules that all models share."""

    def propose(
        self, checklist: Checklist, verdict: Verdict, caption: Caption, limit: int
    ) -> tuple[Candidate, ...]:
        """At most ``limit`` different candidates, best guess first."""
        drawn = as_drawn(checklist, verdict)
        others = super().propose(checklist, verdict, caption, limit)
        return distinct((drawn, *others) if drawn else others)[: max(limit, 0)]


def as_drawn(checklist: Checklist, verdict: Verdict) -> Candidate | None:
    """The prompt with what was seen in place of what was asked; None where nothing can be named.

    Raises:
        PromptError: the prompt is not of the embedded world.
    """
    asked = parse(checklist.prompt)
    failed = [check for check in verdict.checks if check.passed is False]
    missing = {c.requirement.subject for c in failed if c.requirement.kind == "object"}
    groups = {group.kind: group for group in asked.groups if group.kind not in missing}
    relation = asked.relation if len(groups) == len(asked.groups) else None
    for check in failed:
        claim, seen = check.requirement, _seen(check)
        if claim.kind == "relation" and claim.object:
            relation = seen.relation if relation and seen else None
        elif claim.subject in groups:
            groups[claim.subject] = _changed(groups[claim.subject], claim, seen)
    drawn = Spec(tuple(groups.values()), relation)
    if not groups or drawn == asked:
        return None
    faults = "; ".join(check.requirement.text for check in failed)
    return Candidate(drawn.text(), "targeted", f"the prompt as it was drawn; fails: {faults}")


def _changed(group: Group, claim: Requirement, seen: Spec | None) -> Group:
    """A group of the prompt with what was seen of one claim; what cannot be named is left out."""
    first = seen.groups[0] if seen else Group(group.kind)
    if claim.kind == "count":
        return replace(group, count=first.count)
    if claim.kind == "attribute":
        return replace(group, color=first.color)
    if claim.kind == "size":
        return replace(group, size=OPPOSITES.get(claim.value, first.size))
    if claim.kind == "relation":
        return replace(group, region=first.region)
    return group


def _seen(check: Check) -> Spec | None:
    """What a failed check saw, by its first phrase; None where it is not of the embedded world."""
    try:
        return parse(check.observed.split(" and ")[0])
    except PromptError:
        return None

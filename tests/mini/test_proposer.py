"""The prompt as it was drawn: what was seen stands where it was asked, all else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.mini.checklist import MiniChecklister
from npcorrect.mini.data import TAGS, sample_scene, sample_spec
from npcorrect.mini.grammar import parse
from npcorrect.mini.proposer import MiniProposer, as_drawn
from npcorrect.mini.scene import Scene, Thing
from npcorrect.mini.viewer import checks
from npcorrect.records import Caption, Verdict


def negative(prompt: str, *things: Thing) -> str | None:
    asked = MiniChecklister().checklist(prompt)
    drawn = as_drawn(asked, Verdict(checks((Scene(things), 1.0), asked)))
    return drawn.negative_prompt if drawn else None


BUS = Thing(1, 0, "bus", "yellow", "large")
CUP = Thing(1, 1, "cup", "white", "small")


@pytest.mark.parametrize(
    ("prompt", "things", "expected"),
    [
        ("a brown bus and a cup", (BUS, CUP), "one yellow bus and one cup"),
        ("two buses", (BUS,), "one bus"),
        ("a bus on the right and a cup", (BUS, CUP), "one bus on the left and one cup"),
        ("a bus on the above", (BUS,), "one bus on the left"),
        ("a bus to the right of a cup", (BUS, CUP), "one bus to the left of one cup"),
        ("a smaller bus and a larger cup", (BUS, CUP), "one larger bus and one smaller cup"),
        ("a small bus", (BUS,), "one large bus"),
        ("two red buses and a spoon", (BUS, CUP), "one yellow bus"),
        ("a spoon", (BUS,), None),
        ("a yellow bus and a cup", (BUS, CUP), None),
    ],
)
def test_what_was_seen_stands_where_it_was_asked(
    prompt: str, things: tuple[Thing, ...], expected: str | None
) -> None:
    assert negative(prompt, *things) == expected


@given(st.randoms(use_true_random=False), st.sampled_from(TAGS))
def test_it_is_a_prompt_of_the_world_that_differs_in_what_failed(rng: object, tag: str) -> None:
    spec = sample_spec(rng, tag)  # type: ignore[arg-type]
    scene = sample_scene(rng, spec, habits=True)  # type: ignore[arg-type]
    asked = MiniChecklister().checklist(spec.text())
    verdict = Verdict(checks((scene, 1.0), asked))
    drawn = as_drawn(asked, verdict)
    if verdict.accepted:
        assert drawn is None
    elif drawn:
        failed = {check.requirement.subject for check in verdict.failed}
        now = {group.kind: group for group in parse(drawn.negative_prompt).groups}
        for group in spec.groups:
            assert group.kind in failed or now[group.kind] == group


def test_it_comes_first_and_the_common_rules_follow() -> None:
    asked = MiniChecklister().checklist("a brown bus and a cup")
    verdict = Verdict(checks((Scene((BUS, CUP)), 1.0), asked))
    made = MiniProposer().propose(asked, verdict, Caption("one yellow bus and one white cup"), 5)
    assert made[0].negative_prompt == "one yellow bus and one cup"
    assert len(made) > 1
    assert MiniProposer().propose(asked, verdict, Caption(""), 0) == ()

"""What a prompt says must not be there becomes a requirement, and a negative."""

from __future__ import annotations

import pytest

from npcorrect.asked import asked, unwanted, with_absences
from npcorrect.records import Checklist, Requirement


@pytest.mark.parametrize(
    ("prompt", "denied"),
    [
        ("Three mice in a room without windows", ("windows",)),
        ("no people, no cars or bikes on the street", ("people", "cars", "bikes")),
        ("a man without a hat and glasses", ("hat", "glasses")),
        ("a room without windows and two cats", ("windows",)),
        ("a cloud-free sky", ("cloud",)),
        ("a street free of any cars", ("cars",)),
        ("nobody on the beach", ("people",)),
        ("a park with no one in it", ("people",)),
        ("a no parking sign", ()),
        ("a cat leaping without touching the ground", ()),
        ("no longer a dog", ()),
        ("no more than two cats", ()),
        ('a sign that says "no dogs"', ()),
        ("a free dog", ()),
        ("no", ()),
        ("two cats, no other animals", ()),
        ("no fewer than two cats", ()),
        ("a portrait, no background", ()),
        ("a hands-free phone", ()),
        ("no text, logos, or watermarks", ("text", "logos", "watermarks")),
        ("a beach without people, umbrellas or boats", ("people", "umbrellas", "boats")),
        ("a table with no plates, two cups and a fork", ("plates",)),
        ("without text, two cats or a dog", ("text",)),
        ("a house with no roof and no doors", ("roof", "doors")),
    ],
)
def test_what_a_prompt_denies(prompt: str, denied: tuple[str, ...]) -> None:
    assert unwanted(Checklist(prompt, ())) == denied


def test_a_denial_becomes_a_claim_and_its_contrary_goes() -> None:
    claims = (
        Requirement("r1", "object", "at least one mouse is visible", "mouse", "mouse"),
        Requirement("r2", "object", "at least one window is visible", "window", "window"),
        Requirement("r3", "relation", "", "mouse", "near", "window", depends_on=("r1", "r2")),
    )
    checklist = with_absences(Checklist("a mouse without windows", claims))
    assert [(c.id, c.text, c.depends_on) for c in checklist.requirements] == [
        ("r1", "at least one mouse is visible", ()),
        ("r3", "", ("r1",)),
        ("absent1", "there are no windows", ()),
    ]
    last = checklist.requirements[-1]
    assert (last.kind, last.subject, last.value) == ("count", "window", "0")
    assert with_absences(checklist) == checklist


@pytest.mark.parametrize("none", ["0", "zero", "None", "no"])
def test_a_claim_of_absence_is_a_negative_too(none: str) -> None:
    gone = Requirement("r1", "count", "there is no banana", "banana", none)
    assert unwanted(Checklist("apples alone", (gone,))) == ("banana",)


def test_things_are_read_with_all_that_is_said_of_them() -> None:
    things = {thing.noun: thing for thing in asked(Checklist(
        "two red knives on the left and a cup made of paper the size of a car", ()
    )).things}  # fmt: skip
    assert things.keys() == {"knife", "cup", "paper"}
    assert things["knife"].counts == {2}
    assert "red" in things["knife"].words
    assert things["knife"].places == {"left"}
    assert things["cup"].materials == {"paper"}

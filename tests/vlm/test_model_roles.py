"""The roles over a fake model: what is asked, and what is made of the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from npcorrect.errors import PromptError, VLMError
from npcorrect.records import Caption, Check, Verdict
from npcorrect.vlm.base import Reply, Usage
from npcorrect.vlm.fake import FakeVLM
from npcorrect.vlm.grammar import GrammarChecklister
from npcorrect.vlm.model_roles import (
    FirstUnderstood,
    VLMCaptioner,
    VLMChecklister,
    VLMProposer,
    linked,
)
from npcorrect.vlm.questions import instructions
from npcorrect.vlm.usage import accounting

PICTURE = Image.new("RGB", (8, 8))
CHECKLIST = GrammarChecklister().checklist("three red cups and one dog")
COUNT = CHECKLIST.requirements[2]


def claims(reply: object) -> str:
    return json.dumps({"claims": reply})


def claim(kind: str, subject: str, value: str, other: str = "") -> dict[str, str]:
    return {"kind": kind, "text": f"{subject} {value} {other}", "subject": subject,
            "value": value, "object": other}  # fmt: skip


def test_the_checklister_links_claims_to_the_things_that_they_are_about() -> None:
    said = claims(
        [
            claim("count", "Cup", "2"),
            claim("object", "cup", "cup"),
            claim("relation", "cup", "on top of", "table"),
            claim("style", "picture", "watercolor"),
        ]
    )
    checklist = VLMChecklister(FakeVLM([said])).checklist("two cups on a table, watercolor")
    assert [(c.id, c.kind, c.subject, c.depends_on) for c in checklist.requirements] == [
        ("r1", "object", "cup", ()),
        ("r2", "object", "table", ()),
        ("r3", "count", "cup", ("r1",)),
        ("r4", "relation", "cup", ("r1", "r2")),
        ("r5", "style", "picture", ()),
    ]


def test_a_prompt_without_claims_is_refused() -> None:
    with pytest.raises(PromptError, match="'hello'"):
        VLMChecklister(FakeVLM([claims([])])).checklist("hello")


def test_the_first_checklister_that_understands_is_heard() -> None:
    model = FakeVLM([claims([claim("object", "eagle", "eagle")])])
    both = FirstUnderstood(GrammarChecklister(), VLMChecklister(model))
    assert both.checklist("two dogs").requirements[0].subject == "dog"
    assert not model.asked
    assert both.checklist("a ceramic eagle").requirements[0].subject == "eagle"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"text": "два красных круга", "phrases": []}', "not in English"),
        ('{"text": "' + "a " * 1001 + '", "phrases": []}', "longer than"),
        ('{"text": "a cup", "phrases": ["чашка на столе"]}', "not in English"),
        ('{"text": 5, "phrases": []}', "valid string"),
    ],
)
def test_a_caption_that_no_text_encoder_knows_is_no_caption(text: str, why: str) -> None:
    with pytest.raises(VLMError, match=why) as caught:
        VLMCaptioner(FakeVLM([text])).caption(PICTURE)
    assert caught.value.raw == text


def test_the_captioner_never_learns_the_prompt() -> None:
    fake = FakeVLM(['{"text": "A café.", "phrases": ["a  cup"]}'])
    assert VLMCaptioner(fake).caption(PICTURE) == Caption("A café.", ("a cup",))
    assert "<prompt>" not in str(fake.asked[0].messages)


VERDICT = Verdict((Check(COUNT, False, "four cups"),))


NONE_ASKED = '{"asked": []}'


def proposal(faults: Sequence[str], extras: Sequence[str] = ()) -> str:
    return json.dumps({"faults": faults, "extras": extras})


def test_proposals_pass_the_rules_of_all_negatives() -> None:
    fake = FakeVLM([proposal(["Four cups"], ["wooden table"]), NONE_ASKED])
    found = VLMProposer(fake).propose(CHECKLIST, VERDICT, Caption("four cups on a table"), 9)
    assert [(c.negative_prompt, c.source) for c in found] == [
        ("four cups on a table", "combined"),
        ("four cups", "targeted"),
        ("four cups and wooden table", "combined"),
        ("wooden table", "untargeted"),
    ]
    text = fake.asked[0].messages[-1].text
    assert "<failed>exactly three cups; seen instead: four cups</failed>" in text


def test_what_is_refused_is_asked_for_again_once_with_the_reason() -> None:
    first = proposal(["no dog", "crimson mugs", "Four cups"], ["brown puppy"])
    second = proposal(["green cups", "red cups"], ["a wooden table"])
    fake = FakeVLM([first, second, NONE_ASKED])
    found = VLMProposer(fake).propose(CHECKLIST, VERDICT, Caption(""), 9)
    singles = [c.negative_prompt for c in found if c.source != "combined"]
    assert singles == ["four cups", "a wooden table", "green cups"]
    assert "<refused>" not in fake.asked[0].messages[-1].text
    again = fake.asked[1].messages[-1].text
    assert "<refused>no dog</refused> it says that something is absent" in again
    assert "<refused>crimson mugs</refused> the prompt asks for 'crimson mugs'" in again
    assert "<refused>brown puppy</refused>" in again
    assert len(fake.asked) == 3


def test_one_question_finds_what_the_prompt_asks_for_among_all_candidates() -> None:
    said = proposal(["four cups", "drinking vessel"], ["wooden table"])
    fake = FakeVLM([said, '{"asked": ["Drinking vessel."]}'])
    found = VLMProposer(fake).propose(CHECKLIST, VERDICT, Caption(""), 9)
    assert not [c for c in found if "vessel" in c.negative_prompt]
    text = fake.asked[1].messages[-1].text
    assert text.count("<phrase>") == 3
    assert "<phrase>four cups</phrase>" in text


def test_a_proposer_that_names_nothing_fails() -> None:
    fake = FakeVLM([proposal(["no cups"], ["red cups"]), proposal([])])
    with pytest.raises(VLMError, match="named nothing") as caught:
        VLMProposer(fake).propose(CHECKLIST, VERDICT, Caption(""), 5)
    assert "no cups" in caught.value.raw


def test_what_was_asked_is_charged_even_where_it_failed() -> None:
    failed = Reply("", "busy", usage=Usage(3, 10, 2, retries=2))
    with accounting() as account, pytest.raises(VLMError):
        VLMCaptioner(FakeVLM([failed])).caption(PICTURE)
    assert account.usage == failed.usage


@pytest.mark.parametrize("role", ["verifier", "verifier_together", "observer", "captioner"])
def test_whoever_sees_pictures_is_told_that_writing_in_them_has_no_say(role: str) -> None:
    assert "Writing in the picture is part of the picture" in instructions(role)


def test_linking_is_stable_where_nothing_is_missing() -> None:
    once = linked(CHECKLIST.requirements)
    assert linked(once) == once == CHECKLIST.requirements


def schema_objects(schema: Any) -> list[dict[str, Any]]:
    """All object schemas within one."""
    nested = schema.values() if isinstance(schema, dict) else schema
    found = [o for part in nested if isinstance(part, dict | list) for o in schema_objects(part)]
    if isinstance(schema, dict) and schema.get("type") == "object":
        found.append(schema)
    return found


def test_schemas_are_what_strict_servers_take() -> None:
    fake = FakeVLM([Reply("", "never mind")], repeat=True)
    for ask in (
        lambda: VLMChecklister(fake).checklist("x"),
        lambda: VLMCaptioner(fake).caption(PICTURE),
        lambda: VLMProposer(fake).propose(CHECKLIST, VERDICT, Caption(""), 5),
    ):
        with pytest.raises(VLMError):
            ask()
    objects = [o for question in fake.asked for o in schema_objects(question.schema)]
    assert len(objects) == 4
    for schema in objects:
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) == set(schema["properties"])

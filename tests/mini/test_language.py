"""One language: text, meaning, tokens and claims agree, and refusals help."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.errors import PromptError
from npcorrect.mini.checklist import meets, requirements
from npcorrect.mini.data import TAGS, describe, sample_free, sample_scene, sample_spec
from npcorrect.mini.grammar import parse
from npcorrect.mini.language import MAX_TOKENS, TOKEN_IDS, Group, Spec
from npcorrect.mini.scene import COLORS
from npcorrect.mini.spelling import spellings, words_of
from npcorrect.mini.things import THINGS
from npcorrect.mini.tokenizer import build_tokenizer
from npcorrect.vlm.grammar import GrammarChecklister
from tests.evaluation.official_data import needs

TOKENIZER = build_tokenizer()
seeds = st.integers(0, 2**32)
OFFICIAL = (
    "A photo of a brown bus, a green truck, and a red skateboard",
    "A photo of a blue laptop, an orange chair, and a white hair drier",
    "A photo of three clocks on the left and one cats on the right",
    "A photo of two baseball gloves on the above and three cows on the below",
    "A photo of three scissorses on the above and two dining tables on the below",
    "A photo of pink bicycle on the left and red orange on the right",
    "A photo of two orange clocks and one red skises",
    "A photo of two baseball bats, three couchs, and three bears",
    "A photo of a larger bench on the above and a smaller spoon on the below",
    "A photo of seven chairs",
)


def token_ids(text: str) -> list[int]:
    """The tokenizer's ids, which are those of the words that are told without it."""
    ids: list[int] = TOKENIZER(text, padding="max_length", max_length=MAX_TOKENS)["input_ids"]
    assert [TOKEN_IDS[word] for word in words_of(text)] == ids[: ids.index(TOKEN_IDS["</s>"])]
    return ids


@pytest.mark.parametrize("prompt", OFFICIAL)
def test_the_benchmarks_own_sentences_are_read_as_the_other_grammar_reads_them(
    prompt: str,
) -> None:
    spec = parse(prompt)
    assert requirements(spec) == GrammarChecklister().checklist(prompt).requirements
    assert token_ids(prompt) == spec.token_ids()


@given(seeds, st.sampled_from([*TAGS, "free"]))
def test_text_tokens_and_meaning_agree(seed: int, tag: str) -> None:
    rng = random.Random(seed)
    spec = sample_free(rng) if tag == "free" else sample_spec(rng, tag)
    assert parse(spec.text()) == spec
    assert parse(f"A photo of {spec.text()}.") == spec
    assert token_ids(f"a photo of {spec.text()}") == spec.token_ids()


@given(seeds, st.sampled_from([*TAGS, "free"]))
def test_an_exact_scene_meets_its_prompt_and_its_description(seed: int, tag: str) -> None:
    rng = random.Random(seed)
    spec = sample_free(rng) if tag == "free" else sample_spec(rng, tag)
    scene = sample_scene(rng, spec)
    assert meets(spec, scene)
    assert meets(describe(scene), scene)
    assert meets(describe(scene, rng), scene)


@pytest.mark.parametrize("kind", THINGS)
def test_every_spelling_of_a_kind_is_read_and_tokenised_alike(kind: str) -> None:
    for form in spellings(THINGS[kind]):
        prompt = f"two purple {form}"
        assert parse(prompt) == Spec((Group(kind, 2, "purple"),))
        assert token_ids(prompt) == parse(prompt).token_ids()


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a bike and a doughnut", "one bicycle and one donut"),
        ("2 big red apples", "two large red apples"),
        ("a phone under the sofa", None),
        ("a cat left of 3 mice", "one cat to the left of three computer mice"),
        ("a plane at the top and a bus at the bottom", None),
        ("a grey elephant on the left side", "one gray elephant on the left"),
        ("an orange orange", "one orange orange"),
        ("oranges with a purple plane", "oranges and one purple airplane"),
        ("  A Photo of ONE  pink bottles. ", "one pink bottle"),
    ],
)
def test_what_people_type_is_read(prompt: str, text: str | None) -> None:
    spec = parse(prompt)
    assert text is None or spec.text() == text
    assert token_ids(prompt) == spec.token_ids()


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("a cat next to a dog", "'next to'"),
        ("a cat behind a dog", "'behind'"),
        ("a bananna", "banana"),
        ("a blue unicorn", "'unicorn'"),
        ("a dog and two dogs", "one kind of thing twice"),
        ("five cats and five dogs", "at most 9"),
        ("four cats on the left", "more than three"),
        ("a cat above a dog and a bird", "between two"),
        ("ten dogs", "'ten'"),
        ("a very red apple", "'very'"),
        ("red blue apple", "cannot read"),
        ("", "empty"),
        ("cat " * 200, "characters"),
    ],
)
def test_what_it_cannot_draw_is_refused_in_one_helpful_sentence(prompt: str, part: str) -> None:
    with pytest.raises(PromptError, match=part):
        parse(prompt)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spec = parse(text)
    except PromptError:
        return
    assert parse(spec.text()) == spec


@given(st.lists(st.sampled_from([*THINGS, *COLORS, "two", "on", "the", "left", "and", ","])))
def test_what_is_read_keeps_its_meaning(words: list[str]) -> None:
    try:
        spec = parse(" ".join(words))
    except PromptError:
        return
    assert parse(spec.text()) == spec


def test_all_official_prompts_are_accepted() -> None:
    file = needs("geneval_pp.jsonl") / "geneval_pp.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        groups = (
            Group(g["class"], g["count"], g.get("color"), g.get("size"), g.get("region"))
            for g in row["include"]
        )
        assert parse(row["prompt"]) == Spec(tuple(groups))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_the_tokenizer_sees_the_words_that_are_told_without_it(text: str) -> None:
    ids = TOKENIZER(text, truncation=False)["input_ids"]
    unknown = TOKEN_IDS["<unk>"]
    assert [TOKEN_IDS.get(word, unknown) for word in words_of(text)] == ids[:-1]

"""Words to tokens, through the tokenizer's own offsets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from npcorrect.analysis.spans import Token, places_of, prompt_tokens, salient_terms
from npcorrect.diffusion.families import FLUX_DEV
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import SettingsError
from npcorrect.mini.checklist import requirements
from npcorrect.mini.grammar import parse
from npcorrect.mini.tokenizer import build_tokenizer
from npcorrect.records import Checklist, Requirement


def reading(tokenizer: Any) -> PipelineModel:
    """A model that reads with this tokenizer, and is nothing else."""
    pipeline = SimpleNamespace(tokenizer_2=tokenizer, vae_scale_factor=8, scheduler=None)
    return PipelineModel("reader", pipeline, FLUX_DEV)


@pytest.fixture(scope="module")
def letters() -> Any:
    """A pipeline whose tokens are pieces of words, framed by marks."""
    pieces = ("<s>", "</s>", "<unk>", "▁", "c", "art", "s", "▁cart", "▁art", "▁in", "▁a")
    core = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return reading(PreTrainedTokenizerFast(tokenizer_object=core))


def test_a_word_is_no_part_of_another(letters: Any) -> None:
    prompt = "art in a cart"
    tokens = prompt_tokens(letters, prompt)
    assert places_of(tokens, prompt, "art") == (1,)
    assert places_of(tokens, prompt, "ART in") == (1, 2)
    assert places_of(tokens, prompt, "cart") == (4,)


def test_a_word_of_several_tokens_and_of_several_places(letters: Any) -> None:
    prompt = "arts in carts, arts"
    tokens = prompt_tokens(letters, prompt)
    texts = [prompt[token.start : token.stop].strip() for token in tokens]
    assert texts[:2] == ["art", "s"]
    places = places_of(tokens, prompt, "arts")
    assert [texts[place - 1] for place in places] == ["art", "s", "art", "s"]


def test_marks_and_padding_are_no_words(letters: Any) -> None:
    tokens = prompt_tokens(letters, "art")
    assert tokens == (Token(1, 0, 3),)


@pytest.mark.parametrize("term", ["ar", "lamp", "", "art  cart"])
def test_what_the_prompt_lacks_is_an_error(letters: Any, term: str) -> None:
    with pytest.raises(SettingsError, match="no word of the prompt"):
        places_of(prompt_tokens(letters, "art in a cart"), "art in a cart", term)


@pytest.mark.parametrize(
    ("term", "tokens"),
    [
        ("two", ["two"]),
        ("wine", ["wine_glass"]),
        ("wine glasses", ["wine_glass"]),
        ("phones", ["some", "cell_phone"]),
        ("right", ["right_of"]),
        ("one", ["blue"]),
        ("blue cup", ["blue", "cup"]),
    ],
)
def test_the_embedded_models_words_are_tokens_whatever_their_spelling(
    term: str, tokens: list[str]
) -> None:
    prompt = "phones, two wine glasses to the right of one  blue cup"
    tokenizer = build_tokenizer()
    places = places_of(prompt_tokens(reading(tokenizer), prompt), prompt, term)
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[place] for place in places]) == tokens


def test_salient_terms_are_the_words_that_requirements_name() -> None:
    prompt = "two large clocks to the left of one blue kite"
    checklist = Checklist(prompt, requirements(parse(prompt)))
    assert salient_terms(checklist) == ("two", "large", "clocks", "left", "one", "blue", "kite")


def test_irregular_plurals_are_salient() -> None:
    claims = (Requirement("r1", "count", "exactly 3 mice", "mouse", "3"),)
    assert salient_terms(Checklist("three gray mice", claims)) == ("three", "mice")


def test_what_must_be_absent_is_not_salient() -> None:
    claims = (
        Requirement("r1", "count", "exactly 3 cats", "cat", "3"),
        Requirement("r2", "count", "no dog", "dog", "0"),
    )
    assert salient_terms(Checklist("3 cats and no dog", claims)) == ("3", "cats")

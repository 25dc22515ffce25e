"""The ranker ``paper`` against an independent computation of the released score.

Everything here is computed in another way: words by splitting and comparing tokens, vectors by
calling the embedded model's tokenizer and encoder one text at a time.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.mini.embedded import embedded
from npcorrect.ranking import paper_ranker, paper_salient
from npcorrect.records import Candidate, Checklist
from tests.evaluation.official_data import needs

NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
)
STOP = {
    *("a", "an", "the", "and", "or", "with", "of", "in", "on", "at", "to", "for", "from"),
    *("photo", "picture", "image", "scene", "view", "close-up", "closeup", "shot"),
}
NEGATIVES = (
    "four red apples",
    "a blue cup",
    "one banana and a plain background",
    "table",
    "of a",
)


def tokens(prompt: str) -> list[str]:
    lower = prompt.lower()
    return "".join(
        c if c in "abcdefghijklmnopqrstuvwxyz0123456789- " else " " for c in lower
    ).split()


def tail(token: str) -> str:
    """What follows the last hyphen: a number may stand there."""
    return token.rsplit("-", 1)[-1]


def pairs(prompt: str) -> list[tuple[str, str]]:
    """Numbers with the next word, read from the left, no word used twice."""
    found, row, place = [], tokens(prompt), 0
    while place < len(row):
        number = tail(row[place])
        after = place + 1
        if number.isdigit() or number in (*NUMBERS, "a", "an"):
            if row[after : after + 1] == ["of"] and starts(row[after + 1 : after + 2]):
                after += 1
            if starts(row[after : after + 1]):
                found.append((number, leading(row[after])))
                place = after
                if leading(row[after]) == row[after]:
                    place += 1
                continue
        place += 1
    return found


def starts(row: list[str]) -> bool:
    return bool(row) and not row[0][0].isdigit()


def leading(token: str) -> str:
    """The letters and hyphens that a token starts with."""
    for place, character in enumerate(token):
        if character.isdigit():
            return token[:place]
    return token


def one(noun: str) -> str:
    if noun.endswith("ies"):
        return noun.removesuffix("ies") + "y"
    for ending in ("xes", "ches", "shes", "ses", "zes"):
        if noun.endswith(ending):
            return noun.removesuffix("es")
    return noun[:-1] if noun[-1] == "s" and noun[-2:] != "ss" else noun


def many(noun: str) -> str:
    if noun[-1] in "sxz" or noun[-2:] in ("ch", "sh"):
        return noun + "es"
    if noun[-1] == "y" and len(noun) > 1 and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def expected_words(prompt: str) -> tuple[set[str], set[str]]:
    quantities: set[str] = set()
    for number, _ in pairs(prompt):
        quantities.add(number)
        if not number.isdigit():
            quantities.add("1" if number in ("a", "an") else str(NUMBERS.index(number)))
    nouns = [word for _, word in pairs(prompt) if len(word) > 1 and word not in STOP]
    if not nouns:
        nouns = [t for t in tokens(prompt) if t.isalpha() and len(t) > 2 and t not in STOP]
    if not nouns:
        nouns = tokens(prompt)[-1:]
    objects = {form for noun in nouns for form in (one(noun), many(one(noun)))}
    return quantities or {"one", "two", "three", "1", "2", "3"}, objects


@cache
def model() -> PipelineModel:
    return embedded()


def states(ids: list[int], length: int) -> np.ndarray:
    """The encoder's states of these tokens, padded to a length that the mask hides."""
    pipeline = model().pipeline
    padded = torch.tensor([ids + [pipeline.tokenizer_2.pad_token_id] * (length - len(ids))])
    mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids))])
    with torch.inference_mode():
        out = pipeline.text_encoder_2(input_ids=padded, attention_mask=mask).last_hidden_state
    return np.asarray(out[0, : len(ids)].double().numpy())


@cache
def e(text: str) -> np.ndarray:
    ids = model().pipeline.tokenizer_2(text)["input_ids"]
    return np.asarray(states(ids, model().defaults.max_sequence_length).mean(axis=0))


@cache
def v(phrase: str) -> np.ndarray:
    """Zero where the embedded model's tokenizer leaves nothing of a phrase, as of "a"."""
    ids = model().pipeline.tokenizer_2(phrase, add_special_tokens=False)["input_ids"]
    if not ids:
        return np.zeros_like(e(phrase))
    return np.asarray(states(ids, len(ids)).mean(axis=0))


def cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))


def expected_score(prompt: str, negative: str) -> float:
    quantities, objects = expected_words(prompt)
    delta = e(prompt) - e(negative)
    toward = [np.mean([cos(delta, v(word)) for word in group]) for group in (quantities, objects)]
    return float(sum(toward)) - cos(delta, v(negative))


def prompts(name: str, key: str) -> list[str]:
    lines = (needs(name) / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)[key] for line in lines]


OFFICIAL = (("geneval_pp.jsonl", "prompt", 280), ("imagine.jsonl", "instruction", 270))


@pytest.mark.parametrize(
    ("prompt", "quantities", "objects"),
    [
        ("a brown bus, a green truck", {"a", "1"}, {"brown", "browns", "green", "greens"}),
        ("Three of 12 boxes", {"three", "3", "12"}, {"box", "boxes"}),
        ("a photo of a dog", {"a", "1"}, {"dog", "dogs"}),
        ("dogs on benches", {"one", "two", "three", "1", "2", "3"}, {"dog", "dogs", "bench",
                                                                     "benches"}),
        ("an x", {"an", "1"}, {"x", "xes"}),
        ("it is", {"one", "two", "three", "1", "2", "3"}, {"i", "is"}),
    ],
)  # fmt: skip
def test_the_words_by_hand(prompt: str, quantities: set[str], objects: set[str]) -> None:
    salient = paper_salient(prompt)
    assert (set(salient.quantities), set(salient.objects)) == (quantities, objects)


@pytest.mark.parametrize(("name", "key", "count"), OFFICIAL)
def test_the_words_of_every_official_prompt(name: str, key: str, count: int) -> None:
    texts = prompts(name, key)
    assert len(texts) == count
    for prompt in texts:
        salient = paper_salient(prompt)
        assert (set(salient.quantities), set(salient.objects)) == expected_words(prompt), prompt


@pytest.mark.parametrize(("name", "key", "count"), OFFICIAL)
def test_the_scores_and_the_order_on_every_official_prompt(name: str, key: str, count: int) -> None:
    """Prompts that are longer than the embedded model reads are cut at its length."""
    ranker = paper_ranker(model())
    candidates = [Candidate(text, "targeted") for text in NEGATIVES]
    for text in prompts(name, key):
        prompt = shortened(text)
        ranking = ranker.rank(Checklist(prompt, ()), candidates)
        expected = {n: expected_score(prompt, n) for n in NEGATIVES}
        for entry in ranking:
            assert entry.score == pytest.approx(expected[entry.candidate.negative_prompt], abs=1e-5)
        ordered = [expected[entry.candidate.negative_prompt] for entry in ranking]
        assert all(first > second - 1e-5 for first, second in pairwise(ordered))


def shortened(text: str) -> str:
    words = text.split()
    tokenizer, limit = model().pipeline.tokenizer_2, model().defaults.max_sequence_length
    while len(tokenizer(" ".join(words))["input_ids"]) > limit:
        words.pop()
    return " ".join(words)

"""The text-space score, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from npcorrect.diffusion.base import Reading, TextEncoder, TokenStates
from npcorrect.errors import SettingsError
from npcorrect.mini.checklist import requirements
from npcorrect.mini.grammar import parse
from npcorrect.ranking import (
    RANKERS,
    Ranker,
    SourceRanker,
    paper_ranker,
    paper_salient,
    ranker_maker,
    requirement_ranker,
    requirement_salient,
    salient_ranker,
)
from npcorrect.records import Candidate, Checklist, Requirement

WORDS = {
    "three": (1, 0, 0),
    "apple": (0, 1, 0),
    "apples": (0, 1, 0),
    "banana": (0, 0, 1),
}
END = (0, 0, 3)


class FakeEncoder:
    """Each word has its own fixed state; one special token ends every text that is not alone."""

    def __init__(self) -> None:
        self.calls: list[tuple[Reading, list[str]]] = []

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        self.calls.append((reading, list(texts)))
        return [self._states(text, reading) for text in texts]

    def _states(self, text: str, reading: Reading) -> TokenStates:
        rows = [WORDS.get(word, (0, 0, 0)) for word in text.split()]
        ends = [] if reading == "alone" else [END]
        special = np.array([False] * len(rows) + [True] * len(ends))
        return TokenStates(np.array([*rows, *ends], dtype=np.float32), special)


def asked(prompt: str) -> Checklist:
    return Checklist(prompt, requirements(parse(prompt)))


def negatives(*texts: str) -> tuple[Candidate, ...]:
    return tuple(Candidate(text, "targeted") for text in texts)


def test_the_paper_score_by_hand() -> None:
    # e(prompt) = (1, 1, 3)/3 and e("banana") = (0, 0, 4)/2, so delta = (1/3, 1/3, -1).
    # v("three") = (1, 0, 0), v("3") = 0, v("apple") = v("apples") = (0, 1, 0).
    length = math.sqrt(1 / 9 + 1 / 9 + 1)
    (best,) = paper_ranker(FakeEncoder()).rank(asked("three apples"), negatives("banana"))
    parts = dict(best.parts)
    assert parts == pytest.approx(
        {"quantity": 1 / 6 / length, "object": 1 / 3 / length, "negative": 1 / length}
    )
    assert list(parts) == ["quantity", "object", "negative"]
    assert best.score == pytest.approx((1 / 6 + 1 / 3 + 1) / length)


def test_the_requirement_score_by_hand() -> None:
    # v("three apples") = (1, 1, 0)/2, at cosine (2/3) / (sqrt(2) * |delta|).
    length = math.sqrt(11) / 3
    (best,) = requirement_ranker(FakeEncoder()).rank(asked("three apples"), negatives("banana"))
    assert dict(best.parts)["quantity"] == pytest.approx(2 / 3 / (math.sqrt(2) * length))
    assert dict(best.parts)["object"] == pytest.approx(1 / 3 / length)


def test_the_default_leaves_the_last_term_out() -> None:
    candidates = negatives("banana", "three")
    whole = requirement_ranker(FakeEncoder()).rank(asked("three apples"), candidates)
    salient = salient_ranker(FakeEncoder()).rank(asked("three apples"), candidates)
    for mine, theirs in zip(salient, whole, strict=True):
        assert mine.parts == theirs.parts[:2]
        assert mine.score == mine.parts[0][1] + mine.parts[1][1]


def test_rankers_go_by_their_names() -> None:
    assert ranker_maker(None)(FakeEncoder()).name == "salient"
    for name in RANKERS:
        assert ranker_maker(name)(FakeEncoder()).name == name
    with pytest.raises(SettingsError, match="'best' is unknown; use salient"):
        ranker_maker("best")


@pytest.mark.parametrize("kind", [paper_ranker, requirement_ranker])
def test_the_best_comes_first_and_the_parts_add_up(kind: Callable[[TextEncoder], Ranker]) -> None:
    ranking = kind(FakeEncoder()).rank(
        asked("three apples"), negatives("three", "banana", "three apples")
    )
    scores = [entry.score for entry in ranking]
    assert scores == sorted(scores, reverse=True)
    assert ranking[0].candidate.negative_prompt == "banana"
    for entry in ranking:
        assert sum(value for _, value in entry.parts) == entry.score


def test_a_negative_equal_to_the_prompt_scores_zero() -> None:
    (same,) = paper_ranker(FakeEncoder()).rank(asked("three apples"), negatives("three apples"))
    assert same.score == 0


def test_texts_are_encoded_together_and_remembered() -> None:
    encoder = FakeEncoder()
    ranker = requirement_ranker(encoder)
    ranker.rank(asked("three apples"), negatives("banana", "three", "banana"))
    texts = ["three apples", "banana", "three", "apple", "apples"]
    assert encoder.calls == [("drawn", texts)]
    ranker.rank(asked("three apples"), negatives("banana"))
    assert len(encoder.calls) == 1
    ranker.rank(asked("three apples"), negatives("banana", "clock"))
    assert encoder.calls[1:] == [("drawn", ["clock"])]
    assert ranker.rank(asked("three apples"), ()) == ()
    assert len(encoder.calls) == 2


def test_the_paper_encodes_texts_whole_and_phrases_alone() -> None:
    encoder = FakeEncoder()
    paper_ranker(encoder).rank(asked("three apples"), negatives("banana"))
    assert encoder.calls == [
        ("masked", ["three apples", "banana"]),
        ("alone", ["three", "3", "apple", "apples", "banana"]),
    ]


def test_the_paper_takes_adjectives_for_objects_and_makes_up_quantities() -> None:
    salient = paper_salient("Three red apples and 2 boxes")
    assert salient.quantities == ("three", "3", "2")
    assert salient.objects == ("red", "reds", "box", "boxes")
    nothing = paper_salient("dogs")
    assert nothing.quantities == ("one", "two", "three", "1", "2", "3")
    assert nothing.objects == ("dog", "dogs")


def test_requirements_give_counts_nouns_colours_sizes_and_relations() -> None:
    salient = requirement_salient(asked("three large red apples above one cup"))
    assert salient.quantities == ("three apples", "one cup")
    assert salient.objects == (
        "apple",
        "apples",
        "cup",
        "cups",
        "red apple",
        "large apple",
        "apple above cup",
    )
    assert requirement_salient(asked("apples")).quantities == ()


@pytest.mark.parametrize(
    ("claim", "phrases"),
    [
        (("count", "knife", "3", ""), ("three knives",)),
        (("count", "sheep", "2", ""), ("two sheep",)),
        (("count", "skis", "2", ""), ("two skis",)),
        (("count", "computer mouse", "2", ""), ("two computer mice",)),
        (("count", "window", "0", ""), ()),
        (("object", "person", "person", ""), ("person", "people")),
        (("relation", "clock", "on the left", ""), ("clock on the left",)),
        (("relation", "cup", "on top of", "table"), ("cup on top of table",)),
        (("attribute", "umbrella", "built from seashells", ""), ("umbrella built from seashells",)),
        (("style", "picture", "watercolor", ""), ("watercolor picture",)),
        (("text", "sign", "OPEN", ""), ()),
    ],
)
def test_salient_phrases_are_english(
    claim: tuple[str, str, str, str], phrases: tuple[str, ...]
) -> None:
    kind, subject, value, other = claim
    requirement = Requirement("r1", kind, "", subject, value, other)
    salient = requirement_salient(Checklist("", (requirement,)))
    assert (*salient.quantities, *salient.objects) == phrases


def test_the_source_ranker_keeps_the_order() -> None:
    ranker: Ranker = SourceRanker()
    ranking = ranker.rank(asked("apples"), negatives("b", "a", "c"))
    assert [entry.candidate.negative_prompt for entry in ranking] == ["b", "a", "c"]
    assert [entry.score for entry in ranking] == [0, -1, -2]

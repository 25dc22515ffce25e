"""The text-space score, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from npcorrect.diffusion.base import TokenStates
from npcorrect.errors import SettingsError
from npcorrect.mini.grammar import parse
from npcorrect.ranking import (
    RANKERS,
    PaperRanker,
    Ranker,
    RequirementRanker,
    SalientRanker,
    SourceRanker,
    paper_salient,
    ranker_maker,
    requirement_salient,
)
from npcorrect.records import Candidate, Checklist

WORDS = {
    "three": (1, 0, 0),
    "circle": (0, 1, 0),
    "circles": (0, 1, 0),
    "star": (0, 0, 1),
}
END = (0, 0, 3)


class FakeEncoder:
    """Each word has its own fixed state; one special token ends every text."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> list[TokenStates]:
        self.calls.append(list(texts))
        return [self._states(text) for text in texts]

    def _states(self, text: str) -> TokenStates:
        rows = [WORDS.get(word, (0, 0, 0)) for word in text.split()]
        special = np.array([False] * len(rows) + [True])
        return TokenStates(np.array([*rows, END], dtype=np.float32), special)


def asked(prompt: str) -> Checklist:
    return Checklist(prompt, parse(prompt).requirements())


def negatives(*texts: str) -> tuple[Candidate, ...]:
    return tuple(Candidate(text, "targeted") for text in texts)


def test_the_paper_score_by_hand() -> None:
    # e(prompt) = (1, 1, 3)/3 and e("star") = (0, 0, 4)/2, so delta = (1/3, 1/3, -1).
    # v("three") = (1, 0, 0), v("circle") = v("circles") = (0, 1, 0), v("star") = (0, 0, 1).
    length = math.sqrt(1 / 9 + 1 / 9 + 1)
    (best,) = PaperRanker(FakeEncoder()).rank(asked("three circles"), negatives("star"))
    parts = dict(best.parts)
    assert parts == pytest.approx(
        {"quantity": 1 / 3 / length, "object": 1 / 3 / length, "negative": 1 / length}
    )
    assert list(parts) == ["quantity", "object", "negative"]
    assert best.score == pytest.approx((1 / 3 + 1 / 3 + 1) / length)


def test_the_requirement_score_by_hand() -> None:
    # v("three circles") = (1, 1, 0)/2, at cosine (2/3) / (sqrt(2) * |delta|).
    length = math.sqrt(11) / 3
    (best,) = RequirementRanker(FakeEncoder()).rank(asked("three circles"), negatives("star"))
    assert dict(best.parts)["quantity"] == pytest.approx(2 / 3 / (math.sqrt(2) * length))
    assert dict(best.parts)["object"] == pytest.approx(1 / 3 / length)


def test_the_default_leaves_the_last_term_out() -> None:
    candidates = negatives("star", "three")
    whole = RequirementRanker(FakeEncoder()).rank(asked("three circles"), candidates)
    salient = SalientRanker(FakeEncoder()).rank(asked("three circles"), candidates)
    for mine, theirs in zip(salient, whole, strict=True):
        assert mine.parts == theirs.parts[:2]
        assert mine.score == mine.parts[0][1] + mine.parts[1][1]


def test_rankers_go_by_their_names() -> None:
    assert isinstance(ranker_maker(None)(FakeEncoder()), SalientRanker)
    for name in RANKERS:
        assert ranker_maker(name)(FakeEncoder()).name == name
    with pytest.raises(SettingsError, match="'best' is unknown; use salient"):
        ranker_maker("best")


@pytest.mark.parametrize("kind", [PaperRanker, RequirementRanker])
def test_the_best_comes_first_and_the_parts_add_up(
    kind: type[PaperRanker] | type[RequirementRanker],
) -> None:
    ranking = kind(FakeEncoder()).rank(
        asked("three circles"), negatives("three", "star", "three circles")
    )
    scores = [entry.score for entry in ranking]
    assert scores == sorted(scores, reverse=True)
    assert ranking[0].candidate.negative_prompt == "star"
    for entry in ranking:
        assert sum(value for _, value in entry.parts) == entry.score


def test_a_negative_equal_to_the_prompt_scores_zero() -> None:
    (same,) = PaperRanker(FakeEncoder()).rank(asked("three circles"), negatives("three circles"))
    assert same.score == 0


def test_one_encoder_call_per_ranking_and_none_for_known_texts() -> None:
    encoder = FakeEncoder()
    ranker = PaperRanker(encoder)
    ranker.rank(asked("three circles"), negatives("star", "three", "star"))
    assert encoder.calls == [["three circles", "three", "circle", "circles", "star"]]
    ranker.rank(asked("three circles"), negatives("star"))
    assert len(encoder.calls) == 1
    ranker.rank(asked("three circles"), negatives("star", "heart"))
    assert encoder.calls[1:] == [["heart"]]
    assert ranker.rank(asked("three circles"), ()) == ()
    assert len(encoder.calls) == 2


def test_the_paper_takes_adjectives_for_objects_and_makes_up_quantities() -> None:
    salient = paper_salient("Three red circles and 2 boxes")
    assert salient.quantities == ("three", "2")
    assert salient.objects == ("red", "reds", "box", "boxes")
    nothing = paper_salient("a dog")
    assert (nothing.quantities, nothing.objects) == (("one", "two", "three"), ())


def test_requirements_give_counts_nouns_colours_sizes_and_relations() -> None:
    salient = requirement_salient(asked("three large red circles above one square"))
    assert salient.quantities == ("three circles", "one square")
    assert salient.objects == (
        "circle",
        "circles",
        "red circle",
        "large circle",
        "square",
        "squares",
        "circle above square",
    )
    assert requirement_salient(asked("a striped background")).objects == ("striped background",)
    assert requirement_salient(asked("circles")).quantities == ()


def test_the_source_ranker_keeps_the_order() -> None:
    ranker: Ranker = SourceRanker()
    ranking = ranker.rank(asked("circles"), negatives("b", "a", "c"))
    assert [entry.candidate.negative_prompt for entry in ranking] == ["b", "a", "c"]
    assert [entry.score for entry in ranking] == [0, -1, -2]

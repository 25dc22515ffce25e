"""The measures, by hand and by their laws."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.analysis import measures
from npcorrect.analysis.measures import Words

WORDS = Words(prompt=(0, 1, 3), salient=(1,))
TEXT_T = torch.tensor([0.1, 0.3, 0.4, 0.1])


def test_by_hand() -> None:
    assert WORDS.background == (0, 3)
    assert math.isclose(measures.salient_score(TEXT_T, WORDS), 0.3, rel_tol=1e-6)
    assert math.isclose(measures.background_score(TEXT_T, WORDS), 0.2, rel_tol=1e-6)
    assert math.isclose(measures.ratio(TEXT_T, WORDS), 1.5, rel_tol=1e-6)
    assert math.isclose(measures.fraction(TEXT_T, WORDS), 0.6, rel_tol=1e-6)
    entropy = -(0.2 * math.log(0.2) * 2 + 0.6 * math.log(0.6))
    assert math.isclose(measures.entropy(TEXT_T, WORDS.prompt), entropy, rel_tol=1e-5)


def test_where_every_word_is_salient() -> None:
    words = Words((0, 1), (0, 1))
    assert measures.ratio(TEXT_T, words) == math.inf
    assert measures.fraction(TEXT_T, words) == 1
    assert measures.comparable(words) == ("score", measures.salient_score)
    assert measures.comparable(WORDS) == ("fraction", measures.fraction)


def test_the_released_definition_by_hand() -> None:
    blocks = ("transformer_blocks.0.attn", "single_transformer_blocks.0.attn",
              "transformer_blocks.1.attn")  # fmt: skip
    among_SBT = torch.tensor([[[0.1, 0.3, 0.4, 0.2], [1.0, 0.0, 0.0, 0.0], [0.3, 0.5, 0.2, 0.0]]])
    text_ST = measures.released_text(among_SBT, blocks)
    torch.testing.assert_close(text_ST, torch.tensor([[0.2, 0.4, 0.3, 0.1]]))
    words = measures.released_words(WORDS, 4)
    assert words.background == (0, 2, 3)
    torch.testing.assert_close(measures.fraction(text_ST, words), torch.tensor([0.4]))
    torch.testing.assert_close(measures.ratio(text_ST, words), torch.tensor([0.4 / 0.6]))


def test_tails_and_blocks() -> None:
    series_S = torch.arange(12.0)
    assert measures.tail_mean(series_S) == 6.5
    assert measures.tail_mean(series_S[:3]) == 1
    assert measures.tail_mean(series_S, last=2) == 10.5
    text_SBT = torch.rand(3, 4, 5)
    torch.testing.assert_close(measures.over_blocks(text_SBT), text_SBT.mean(1))


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=6), st.floats(0.1, 5))
def test_laws(values: list[float], factor: float) -> None:
    text_T = torch.tensor(values, dtype=torch.float64)
    words = Words(tuple(range(len(values))), (0, 1))
    fraction, ratio = measures.fraction(text_T, words), measures.ratio(text_T, words)
    torch.testing.assert_close(fraction, ratio / (1 + ratio))
    torch.testing.assert_close(measures.fraction(factor * text_T, words), fraction)
    entropy = measures.entropy(text_T, words.prompt)
    assert 0 <= entropy <= math.log(len(values)) + 1e-9
    even = measures.entropy(torch.ones(len(values)), words.prompt)
    torch.testing.assert_close(even, torch.tensor(math.log(len(values))))
    stacked = torch.stack([text_T, text_T.flip(0)])
    torch.testing.assert_close(measures.fraction(stacked, words)[0], fraction)

"""Which rows of a CLIP's states are the text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyui.text import ClipText, Token, plain, text_rows, token_states
from npcorrect.errors import PromptError, SettingsError
from npcorrect.mini.tokenizer import build_tokenizer

PAD: Token = (0, 1.0, 0)
END: Token = (1, 1.0, 0)


def words(count: int) -> list[Token]:
    return [(7 + k, 1.0, k + 1) for k in range(count)]


class FakeClip:
    """Tokens of one word each, padded to 20, and states that count."""

    def tokenize(
        self, text: str, return_word_ids: bool = False, disable_weights: bool = False
    ) -> dict[str, list[list[Token]]]:
        assert disable_weights
        return {"t5xxl": [[*words(len(text.split())), END, PAD, PAD]]}


@given(st.integers(0, 30), st.integers(0, 10), st.booleans())
def test_the_text_is_its_words_with_their_marks(count: int, padding: int, start: bool) -> None:
    tokens = [*([END] if start else []), *words(count), END, *[PAD] * padding]
    rows, special = text_rows(tokens)
    assert rows - sum(special) == count
    assert rows == (start + count + 1 if count else 1)


def test_states_go_with_the_list_of_their_length() -> None:
    states = np.arange(12.0).reshape(6, 2)
    tokens = {"l": [[END, *words(2), END]], "t5xxl": [[*words(3), END, PAD, PAD]]}
    made = token_states(states, tokens)
    np.testing.assert_array_equal(made.states, states[:4])
    assert made.special.tolist() == [False, False, False, True]


def test_the_same_rows_as_the_diffusers_side() -> None:
    ids = build_tokenizer()("three red circles", padding="max_length")["input_ids"]
    end = ids.index(1)
    tokens: list[Token] = [(t, 1.0, int(place < end)) for place, t in enumerate(ids)]
    assert text_rows(tokens) == (end + 1, [False] * end + [True])


def test_states_of_no_list_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"5 states for 3 tokens.*'source'"):
        token_states(np.zeros((5, 2)), {"l": [words(3)]})


def test_a_long_text_is_refused() -> None:
    text = ClipText(FakeClip(), limit=4)
    text.check("three red circles")
    with pytest.raises(PromptError, match="has 5 tokens and the model reads 4"):
        text.check("three large red circles")


def test_no_text_names_a_file() -> None:
    assert "embedding:" not in plain("a cat, embedding:../secret")


def test_a_reading_that_no_clip_has_is_refused() -> None:
    with pytest.raises(SettingsError, match="use the ranker 'salient'"):
        ClipText(FakeClip(), limit=20).encode(["two stars"], "masked")

"""Text from outside steers no terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npcorrect.text import one_line, plain, shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("\x1b[31mred", "[31mred"),
        ("\x1b]8;;http://evil\x07click", "]8;;http://evilclick"),
        ("\x9b2J", "2J"),
        ("abc\u202edef\u2066", "abcdef"),
        ("a\rb\tc", "a b c"),
        ("a\nb", "a\nb"),
        ("\ud800x\x00\x7f", "x"),
        ("très joli 三 👩\u200d🚀 [/] :heart: $$", "très joli 三 👩\u200d🚀 [/] :heart: $$"),
    ],
)
def test_what_steers_is_dropped_and_the_rest_stays(text: str, safe: str) -> None:
    assert plain(text) == safe


@given(st.text(st.characters(exclude_categories=())))
def test_plain_text_is_plain_and_can_be_written(text: str) -> None:
    safe = plain(text)
    assert plain(safe) == safe
    assert not any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in safe)
    safe.encode()


@given(st.text(), st.integers(1, 40))
def test_one_line_is_bounded(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert "\n" not in line


def test_long_text_is_cut_where_it_is_seen_to_be() -> None:
    assert one_line(" " * 300_000) == "…"
    assert one_line("word " * 100, 12) == "word word w…"


@pytest.mark.parametrize(
    "value", ["x" * 300_000, 10**5000, [10**5000], {"a": "b" * 100}, None], ids=type
)
def test_any_value_is_shown_and_bounded(value: object) -> None:
    assert 1 <= len(shown(value)) <= 60

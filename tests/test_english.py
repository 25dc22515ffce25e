"""Whether a text is English is told by its letters and its small words."""

from __future__ import annotations

import pytest

from npcorrect.english import is_english


@pytest.mark.parametrize(
    "text",
    [
        "drei rote Kreise auf einem Holztisch",
        "ein roter Kreis",
        "trois cercles rouges sur une table en bois",
        "un cercle rouge",
        "Hay dos perros junto al coche.",
        "tre cerchi rossi su un tavolo di legno",
        "tr\u00eas c\u00edrculos vermelhos sobre uma mesa",
        "drie rode cirkels op een houten tafel",
        "tre r\u00f6da cirklar p\u00e5 ett tr\u00e4bord",
        "\u4e09\u4e2a\u7ea2\u8272\u7684\u5706",
        "\u0442\u0440\u0438 \u043a\u0440\u0443\u0433\u0430",
    ],
)
def test_other_languages_are_told(text: str) -> None:
    assert not is_english(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "three red circles",
        "a sign that says 'caf\u00e9 de la paix', with a cat",
        "a poster of a film noir",
        "a menu that lists un caf\u00e9 and une tarte",
        "los angeles at night",
        "van gogh painting",
        "two dachshunds and the na\u00efve artist",
        "hay bales",
    ],
)
def test_english_with_foreign_names_is_english(text: str) -> None:
    assert is_english(text)

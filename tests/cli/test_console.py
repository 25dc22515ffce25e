"""Whatever is shown on the terminal steers nothing, and is never taken for markup."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from npcorrect.cli.console import PlainConsole, table_value
from npcorrect.cli.show import cost_line, progress, progress_line
from npcorrect.loop import Event
from npcorrect.records import Cost, Usage

EVIL = "[/] [red]x[/red] :heart: $$ \x1b[2J\x1b]0;t\x07\x9b31m\u202eabc\r\ud800"


def shown(*renderables: object) -> str:
    console = PlainConsole()
    console.file = io.StringIO()
    for one in renderables:
        console.print(one)
    text: str = console.file.getvalue()
    return text


def test_markup_is_text_and_control_characters_are_dropped() -> None:
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL, Text(EVIL))
    for text in (shown(EVIL), shown(Text(EVIL)), shown(table)):
        assert "[/]" in text
        assert ":heart:" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_reaches_the_terminal_as_control(text: str) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown(text))


def test_progress_shows_whatever_a_model_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with progress(quiet=False) as steps:
        steps.on_event(Event(stage="verify", detail=EVIL * 99))
    written = capsys.readouterr().err
    assert "verify: [/] [red]x[/red] :heart:" in written
    assert "\x1b]0;t" not in written


def test_progress_leaves_nothing_where_no_terminal_shows_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress(quiet=False) as steps:
        steps.on_event(Event(stage="verify"))
    assert capsys.readouterr().err == ""


def test_progress_counts_attempts_and_steps() -> None:
    event = Event(stage="draw", detail="four apples", attempt=2, attempts=5, step=3, total=24)
    assert progress_line(event) == "attempt 2 of 5: draw, step 3 of 24: four apples"
    assert progress_line(Event(stage="verify", attempts=5)) == "original: verify"


@pytest.mark.parametrize(
    ("value", "shown_as"),
    [(True, "yes"), (False, "no"), (None, "none"), ("", "none"), ({}, "none"), ([], "none"),
     (["paper", "nag"], "paper, nag"), (0, "0"), (0.0, "0.0"), ({"a": 1}, "{'a': 1}")],
)  # fmt: skip
def test_values_are_shown_in_words(value: object, shown_as: str) -> None:
    assert table_value(value) == shown_as


def test_one_of_a_kind_is_said_in_the_singular() -> None:
    usage = Usage(calls=1, input_tokens=1, swaps=1)
    assert cost_line(Cost(1, 12, 1.0, usage)) == (
        "1 image, 12 denoiser evaluations, 1 call and 1 token of models, "
        "1 swap of models on the card, 1.0 s"
    )
    assert "2 images, 24 denoiser" in cost_line(Cost(2, 24))

"""Inputs are made from the settings, and their defaults say what the settings' defaults say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyui import inputs
from npcorrect.errors import SettingsError
from npcorrect.settings import DrawSettings, RoleSettings, Settings, options


def all_names(record: type[Settings]) -> dict[str, str]:
    return {one.field: one.field for one in options(record) if one.kinds != (tuple,)}


@pytest.mark.parametrize("record", [DrawSettings, RoleSettings])
def test_untouched_inputs_are_the_default_settings(record: type[Settings]) -> None:
    names = all_names(record)
    widgets = inputs.widgets(record, names)
    values = {one.name: one.arguments["default"] for one in widgets}
    assert inputs.settings(record, names, values) == record()
    assert inputs.settings(record, names, {}) == record()
    assert [one.name for one in widgets] == list(names.values())


@given(st.data())
def test_every_choice_is_taken(data: st.DataObject) -> None:
    widgets = inputs.widgets(DrawSettings, all_names(DrawSettings))
    one = data.draw(st.sampled_from([one for one in widgets if one.kind == "Combo"]))
    value = data.draw(st.sampled_from(one.arguments["options"]))
    made = inputs.settings(DrawSettings, {one.name: one.name}, {one.name: value})
    expected = {inputs.DEFAULT: None, "true": True, "false": False}.get(value, value)
    assert getattr(made, one.name) == expected


@given(st.integers(0, 1000), st.integers(0, 50), st.floats(0, 1000))
def test_numbers_are_taken_as_they_are(looks: int, candidates: int, scale: float) -> None:
    values = {"looks": looks, "redrawings": candidates, "cfg": scale}
    names = {"looks": "looks", "candidates": "redrawings", "scale": "cfg"}
    made = inputs.settings(DrawSettings, names, values)
    assert (made.looks, made.candidates, made.scale) == (looks, candidates, scale)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("steps", 0, "at least 1"), ("strength", 0.0, "above 0"), ("rule", "best", "one of paper")],
)
def test_a_value_that_cannot_work_is_refused_in_one_sentence(
    name: str, value: object, says: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^The setting '{name}' is .*{says}"):
        inputs.settings(DrawSettings, {name: name}, {name: value})


def test_advanced_inputs_are_optional() -> None:
    (widget,) = inputs.widgets(DrawSettings, {"looks": "looks"}, advanced=True)
    assert widget.arguments["optional"] is True
    assert widget.arguments["advanced"] is True

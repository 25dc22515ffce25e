"""Options are declared once, checked in one place, and found in every face."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from npcorrect.cli.options import Only, takes_settings
from npcorrect.diffusion.rules import RULES as RULE_CLASSES
from npcorrect.errors import SettingsError
from npcorrect.ranking import RANKERS as RANKER_CLASSES
from npcorrect.settings import (
    RANKERS,
    RULES,
    DrawSettings,
    LoadSettings,
    RoleSettings,
    Settings,
    check,
    model_of,
    option,
    options,
    read,
)

RECORDS: tuple[type[Settings], ...] = (DrawSettings, LoadSettings, RoleSettings)


@dataclass(frozen=True, kw_only=True)
class Extended(DrawSettings):
    """The draw settings with one field more."""

    sharpness: float | None = option(None, "How sharp it is.", "Picture", ge=0, le=2)


def test_a_new_field_is_found_in_every_face() -> None:
    app = typer.Typer()

    @app.command()
    @takes_settings
    def show(draw: Extended) -> None:
        typer.echo(f"sharpness {draw.sharpness}")

    run = CliRunner().invoke
    assert "sharpness 1.5" in run(app, ["--sharpness", "1.5"]).output
    assert "sharpness 0.5" in run(app, [], env={"NPC_SHARPNESS": "0.5"}).output
    assert "How sharp it is." in run(app, ["--help"]).output
    refused = run(app, ["--sharpness", "9"])
    assert isinstance(refused.exception, SettingsError)
    assert read(Extended, {"sharpness": 1.0}, "config.toml").sharpness == 1.0
    body = model_of(Extended).model_json_schema()["properties"]["sharpness"]
    assert body["description"] == "How sharp it is."
    with pytest.raises(SettingsError, match=r"'sharpness' is 3.*at least 0 and at most 2"):
        check(Extended(sharpness=3.0))


def test_a_command_may_take_some_options_only() -> None:
    app = typer.Typer()

    @app.command()
    @takes_settings
    def show(draw: Annotated[DrawSettings, Only(("ranker",))]) -> None:
        typer.echo(f"{draw.ranker} {draw.seed}")

    assert "paper 0" in CliRunner().invoke(app, ["--ranker", "paper"]).output
    assert CliRunner().invoke(app, ["--seed", "1"]).exit_code == 2


def test_no_option_is_declared_twice() -> None:
    every = [one for record in RECORDS for one in options(record)]
    flags = [flag for one in every for flag in (*one.flags, f"--{one.off}") if flag != "--"]
    assert len({one.name for one in every}) == len(every)
    assert len(set(flags)) == len(flags)
    assert all(one.help.endswith((".", "'")) for one in every)


def test_the_choices_are_what_there_is() -> None:
    assert tuple(RULE_CLASSES) == RULES
    assert tuple(RANKER_CLASSES) == RANKERS


@pytest.mark.parametrize("record", RECORDS)
def test_defaults_pass(record: type[Settings]) -> None:
    check(record())
    assert read(record, {}, "here") == record()


@pytest.mark.parametrize(
    ("record", "values", "said"),
    [
        (DrawSettings, {"seed": -1}, "'seed' is -1; give a whole number, at least 0"),
        (DrawSettings, {"seed": True}, "'seed' is True; give a whole number"),
        (DrawSettings, {"seed": 2**63}, "'seed' is 9223372036854775808"),
        (DrawSettings, {"steps": "4"}, "'steps' is '4'; give a whole number, at least 1"),
        (DrawSettings, {"steps": 10**23}, "'steps' is 100000000000000000000000"),
        (DrawSettings, {"scale": float("nan")}, "'scale' is nan; give a number"),
        (DrawSettings, {"scale": float("inf")}, "'scale' is inf; give a number"),
        (DrawSettings, {"strength": 0.0}, "'strength' is 0.0; give a number, above 0"),
        (DrawSettings, {"rule": "magic"}, "'rule' is 'magic'; give one of paper, extra"),
        (DrawSettings, {"fresh": 1}, "'fresh' is 1; give true or false"),
        (DrawSettings, {"batch": 0}, "'batch' is 0"),
        (DrawSettings, {"candidates": 51}, "at most 50"),
        (LoadSettings, {"lora": ["a", 1]}, "'lora' is"),
        (LoadSettings, {"model": ""}, "'model' is ''"),
        (LoadSettings, {"model": "x" * 20_000}, r"'model' is 'xxx\S*\.\.\."),
        (LoadSettings, {"offload": None}, "'offload' is None; give one of none, model"),
        (RoleSettings, {"budget": ""}, "'budget' is ''"),
        (DrawSettings, {"negative_prompt": 3}, "'negative-prompt' is 3; give a text of 0 to 10000"),
        (RoleSettings, {"votes": 0}, "'votes' is 0"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    record: type[Settings], values: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        check(record(**values))
    names = {f.name: one.name for f, one in zip(fields(record), options(record), strict=True)}
    with pytest.raises(SettingsError, match=f"config.toml: .*{said}"):
        read(record, {names[key]: value for key, value in values.items()}, "config.toml")


def test_names_are_the_flags() -> None:
    made = read(DrawSettings, {"negative-scale": 2.0, "keep": True, "negative": "0.2..0.7"}, "here")
    assert made == DrawSettings(negative_scale=2.0, fresh=False, negative="0.2..0.7")
    assert read(DrawSettings, {"negative_scale": 2}, "here").negative_scale == 2
    assert read(LoadSettings, {"lora": ["a", "b=0.5"]}, "here").lora == ("a", "b=0.5")
    assert read(RoleSettings, {"no-cache": True}, "here").cache is False


@pytest.mark.parametrize(
    "values",
    [
        {"fresh": True, "keep": True},
        {"keep": False, "fresh": True},
        {"negative-scale": 1.0, "negative_scale": 1.0},
    ],
)
def test_what_is_said_twice_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"here: '.*' sets '(fresh|negative-scale)' again"):
        read(DrawSettings, values, "here")


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_switch_is_true_or_false(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"here: .*'keep' is .*; give true or false"):
        read(DrawSettings, {"keep": value}, "here")


@pytest.mark.parametrize("number", [Decimal("0.5"), Fraction(1, 2), np.float32(0.5), np.int64(1)])
@pytest.mark.parametrize("field", ["scale", "strength", "negative_scale", "negative", "seed"])
def test_numbers_are_pythons_own(field: str, number: Any) -> None:
    """Others can neither be drawn with nor be written in a record."""
    with pytest.raises(SettingsError, match=f"'{field.replace('_', '-')}' is "):
        check(DrawSettings(**{field: number}))
    check(DrawSettings(scale=np.float64(0.5)))  # which is a float


@pytest.mark.parametrize("text", ["", " ", "lowres"])
def test_an_empty_text_is_taken_where_it_means_something(text: str) -> None:
    app = typer.Typer()

    @app.command()
    @takes_settings
    def show(draw: DrawSettings) -> None:
        typer.echo(repr(draw.negative_prompt))

    assert CliRunner().invoke(app, ["--negative-prompt", text]).output == f"{text!r}\n"
    assert CliRunner().invoke(app, []).output == "None\n"
    assert read(DrawSettings, {"negative-prompt": text}, "here").negative_prompt == text
    body = model_of(DrawSettings).model_validate({"negative-prompt": text})
    assert body.model_dump()["negative_prompt"] == text


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"here: there is no setting 'negativ-scale'.*negative"):
        read(DrawSettings, {"negativ-scale": 2.0}, "here")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = st.sampled_from([one.name for record in RECORDS for one in options(record)]) | st.text()


@given(st.sampled_from(RECORDS), st.dictionaries(NAMES, JSON, max_size=4))
def test_anything_else_is_one_sentence(record: type[Settings], values: dict[str, Any]) -> None:
    said = "body: "
    try:
        check(read(record, values, "body"))
    except SettingsError as error:
        said = str(error)
    assert said.startswith("body: ")
    assert "\n" not in said


def test_the_settings_need_no_torch() -> None:
    code = "import sys, npcorrect.settings; print('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "False"

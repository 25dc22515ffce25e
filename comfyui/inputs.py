"""The inputs of nodes from the settings records, and back. Imports neither torch nor ComfyUI.

A widget of ComfyUI always has a value, so one value of each stands for "as the model has it": an
empty text, -1 for a number, ``default`` among choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeVar

from npcorrect.settings import Option, Settings, check, options

S = TypeVar("S", bound=Settings)
DEFAULT = "default"
UNSET = -1
_LARGEST = 2**53
"""The largest number up to which a page tells all whole numbers apart."""


@dataclass(frozen=True)
class Widget:
    """An input of a node: ComfyUI's type for it, what it is called, and its arguments."""

    kind: Literal["Boolean", "Combo", "Float", "Int", "String"]
    name: str
    arguments: Mapping[str, Any]


def widgets(
    record: type[Settings], names: Mapping[str, str], *, advanced: bool = False
) -> list[Widget]:
    """A widget for each option in ``names``: the fields, with what they are called here.

    ``advanced`` ones are optional, and hidden until they are wanted.
    """
    declared = {one.field: one for one in options(record)}
    common = {"advanced": advanced, "optional": advanced}
    return [_widget(declared[field], name, common) for field, name in names.items()]


def settings(record: type[S], names: Mapping[str, str], values: Mapping[str, Any]) -> S:
    """The record from the values of :func:`widgets`.

    Raises:
        SettingsError: a value cannot work.
    """
    declared = {one.field: one for one in options(record)}
    given = {
        field: _value(declared[field], values[name])
        for field, name in names.items()
        if name in values
    }
    made = record(**given)
    check(made)
    return made


def _widget(one: Option, name: str, common: Mapping[str, Any]) -> Widget:
    unset = one.default is None
    common = {**common, "tooltip": one.help}
    if one.choices or (one.kinds == (bool,) and unset):
        choices = list(one.choices or ("true", "false"))
        default = DEFAULT if unset else one.default
        offered = [DEFAULT, *choices] if unset else choices
        return Widget("Combo", name, {**common, "options": offered, "default": default})
    if one.kinds == (bool,):
        return Widget("Boolean", name, {**common, "default": one.default})
    if one.kinds in ((int,), (float,)):
        return _number(one, name, common)
    return Widget("String", name, {**common, "default": one.default or ""})


def _number(one: Option, name: str, common: Mapping[str, Any]) -> Widget:
    unset = one.default is None
    least = one.limits.get("ge", one.limits.get("gt", 0))
    arguments = {
        **common,
        "default": UNSET if unset else one.default,
        "min": UNSET if unset else least,
        "max": min(one.limits.get("le", one.limits.get("lt", inf) - 1), _LARGEST),
    }
    if unset:
        arguments["tooltip"] += f" {UNSET}: as the model has it."
    if one.field == "seed":
        arguments["control_after_generate"] = True
    if one.kinds == (int,):
        return Widget("Int", name, arguments)
    return Widget("Float", name, {**arguments, "step": 0.05})


def _value(one: Option, given: Any) -> Any:
    if one.default is None and given in (UNSET, DEFAULT, ""):
        return None
    if one.kinds == (bool,) and isinstance(given, str):
        return given == "true"
    return given

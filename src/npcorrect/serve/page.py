"""The page: one HTML document with a style sheet and a script of its own, all read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, StrictUndefined, Template

from npcorrect.serve.jobs_api import Serving
from npcorrect.settings import DrawSettings, Option, options

router = APIRouter(include_in_schema=False)
KINDS = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
"""The page's files and what they are; no other name is looked for."""
EVERYDAY = ("seed", "candidates")
"""The settings beside the prompt; the others wait in a panel."""
TITLES = {"candidates": "Redrawings", "negative": "Negative acts in"}
"""What the page calls settings whose names alone would not say it."""
SAFE = 2**53 - 1
"""The largest whole number that a browser reads exactly."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A setting as a form has it; ``value`` is empty where the model has the last word."""

    name: str
    title: str
    help: str
    type: Literal["number", "text", "choice"]
    value: str
    choices: tuple[str, ...]
    attributes: Mapping[str, object]


@router.get("/", response_class=HTMLResponse)
def show_page(service: Serving) -> str:
    """The page, with a field for each setting."""
    declared = options(DrawSettings)
    return _template().render(
        model=service.model,
        everyday=[field_of(one) for one in declared if one.name in EVERYDAY],
        others=[field_of(one) for one in declared if one.name not in EVERYDAY],
    )


@router.get("/static/{name}")
def show_static(name: str) -> Response:
    """One of the page's own files, by its name.

    Raises:
        HTTPException: 404, where the page has no file of this name.
    """
    if name not in KINDS:
        raise HTTPException(404)
    return Response(_static(name), media_type=KINDS[name])


def field_of(one: Option) -> Field:
    """The field of the page's form for a setting, with its help, default, choices and limits."""
    choices = ("true", "false") if one.kinds == (bool,) else one.choices
    numeric = str not in one.kinds and not choices
    attributes = _number_attributes(one) if numeric else {}
    return Field(
        name=one.name,
        title=TITLES.get(one.name) or one.name.replace("-", " ").capitalize(),
        help=one.help,
        type="choice" if choices else "number" if numeric else "text",
        value="" if one.default is None else str(one.default),
        choices=choices,
        attributes=attributes,
    )


def _number_attributes(one: Option) -> dict[str, object]:
    limits = one.limits
    most = limits.get("le", limits.get("lt", SAFE))
    least = {"min": limits["ge"]} if "ge" in limits else {}
    return {"step": "any" if float in one.kinds else 1, "max": min(most, SAFE), **least}


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_static("page.html.j2").decode())


@cache
def _static(name: str) -> bytes:
    return (files("npcorrect.serve") / "static" / name).read_bytes()

"""No regular expression of the package takes more than linear time, whatever it is given.

All of them are found by reading the source; the texts are made from what each pattern matches.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from re import _constants as codes
from re import _parser
from typing import Any

import pytest

from npcorrect.vlm.redaction import Redactor
from tests.timing import thread_seconds

ROOT = Path(__file__).parents[1]
SIZE = 50_000
SECONDS = 1.0
CALLS = {"match", "search", "fullmatch", "sub", "split", "findall", "finditer"}
KEYS = ("ab" * 20, "\\\\\\\\%%&&##00")
SAMPLES = {
    codes.CATEGORY_DIGIT: "0",
    codes.CATEGORY_SPACE: " ",
    codes.CATEGORY_WORD: "a",
    codes.CATEGORY_NOT_DIGIT: "x",
    codes.CATEGORY_NOT_SPACE: "x",
    codes.CATEGORY_NOT_WORD: "-",
}


SOURCES = {
    path: path.read_text(encoding="utf-8")
    for folder in (ROOT / "src" / "npcorrect", ROOT / "comfyui")
    for path in sorted(folder.rglob("*.py"))
}
USES = {use for source in SOURCES.values() for use in re.findall(r"\b(\w+)\.(?=(\w+))", source)}


@dataclass(frozen=True)
class Used:
    """A pattern, where it stands, and how it is used."""

    place: str
    pattern: re.Pattern[str]
    searches: bool


def patterns() -> Iterator[Used]:
    """Every pattern of the source."""
    for path, source in SOURCES.items():
        name = str(path.relative_to(ROOT))
        yield from _inline(name, ast.parse(source))
        if "re.compile(" in source and "comfyui" not in name:
            parts = path.relative_to(ROOT / "src").with_suffix("").parts
            for attribute, value in vars(importlib.import_module(".".join(parts))).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    yield Used(f"{name}:{attribute}", value, _searches(attribute))
    for key in KEYS:
        pattern = Redactor(key)._pattern
        assert pattern
        yield Used(f"redactor:{key[:10]}", pattern, searches=True)


def _searches(attribute: str) -> bool:
    """Whether a pattern is looked for everywhere in a text, not at its beginning alone."""
    uses = {use for name, use in USES if name == attribute}
    return not uses or not uses <= {"match", "fullmatch"}


def _inline(name: str, tree: ast.Module) -> Iterator[Used]:
    """The patterns that stand in a call."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        first = node.args[0]
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            continue
        match node.func:
            case ast.Name(called) | ast.Attribute(ast.Name("re"), called) if called in CALLS:
                searches = called not in ("match", "fullmatch")
                yield Used(f"{name}:{node.lineno}", re.compile(first.value), searches)


def units(pattern: re.Pattern[str]) -> list[str]:
    """Short texts that a pattern, and each of its parts, takes."""
    found: dict[str, None] = {}
    _sample(_parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG), found)
    return [unit for unit in found if unit and len(unit) <= 60][:10]


def _sample(parsed: Iterable[Any], found: dict[str, None]) -> str:
    """One text that a parsed pattern takes; those of its parts are entered in ``found``."""
    text = ""
    for code, value in parsed:
        part = _part(code, value, found)
        text += part
        found.setdefault(part)
    found.setdefault(text)
    return text


def _part(code: Any, value: Any, found: dict[str, None]) -> str:
    """One text that a part of a pattern takes."""
    if code is codes.LITERAL:
        return chr(value)
    if code in (codes.ANY, codes.NOT_LITERAL):
        return "x"
    if code is codes.IN:
        return _member(value)
    if code is codes.BRANCH:
        branches = [_sample(branch, found) for branch in value[1]]
        return branches[0]
    if code is codes.SUBPATTERN:
        return _sample(value[-1], found)
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        least, _, body = value
        return _sample(body, found) * max(min(int(least), 3), 1)
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        _sample(value[1], found)
    if code is codes.ATOMIC_GROUP:
        return _sample(value, found)
    return ""


def _member(entries: list[tuple[Any, Any]]) -> str:
    """A character of a class."""
    (code, value), *_ = entries
    if code is codes.NEGATE:
        rejected = re.compile(f"[{''.join(map(_escaped, entries[1:]))}]")
        return next(character for character in "xy0 -_.<" if not rejected.match(character))
    if code is codes.RANGE:
        return chr(value[0])
    return str(SAMPLES.get(value, "x")) if code is codes.CATEGORY else chr(value)


def _escaped(entry: tuple[Any, Any]) -> str:
    code, value = entry
    if code is codes.RANGE:
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    letters = {codes.CATEGORY_WORD: "w", codes.CATEGORY_SPACE: "s", codes.CATEGORY_DIGIT: "d"}
    if code is codes.CATEGORY:
        return "\\" + (letters.get(value) or "S")
    return re.escape(chr(value))


def worst(pattern: re.Pattern[str], size: int) -> Iterator[str]:
    """Long texts of a pattern's own characters, alone, by twos, begun well and ended badly."""
    own = units(pattern)
    for unit in own:
        body = (unit * (size // len(unit) + 1))[:size]
        yield body
        yield f"{body}\x00"
    for first, second in product(own[:3], own[:3]):
        if first != second:
            yield first + second * (size // len(second))
            yield ((first + second) * (size // len(first + second) + 1))[:size]


def slowest(used: Used, size: int) -> tuple[float, str]:
    """The time of the slowest text, and its beginning."""
    texts = worst(used.pattern, size)
    return max((thread_seconds(partial(match, used, text)), text[:60]) for text in texts)


def match(used: Used, text: str) -> None:
    """Look for a pattern in every way."""
    for _ in used.pattern.finditer(text) if used.searches else ():
        pass
    used.pattern.match(text)
    used.pattern.fullmatch(text)


EVERY = {used.place: used for used in {one.pattern.pattern: one for one in patterns()}.values()}


def test_they_are_found() -> None:
    places = {place.partition(":")[0] for place in EVERY}
    assert len(EVERY) > 40
    assert {"src/npcorrect/vlm/reasoning.py", "src/npcorrect/prompts.py", "redactor"} <= places


def test_a_pattern_that_goes_back_is_found_out() -> None:
    slow = Used("", re.compile(r"(\w+\s?)+:"), searches=True)
    fast = Used("", re.compile(r"\w++:"), searches=True)
    assert slowest(slow, 18)[0] > 10 * slowest(fast, 18)[0]


@pytest.mark.parametrize("place", sorted(EVERY))
def test_no_pattern_takes_more_than_linear_time(place: str) -> None:
    for size in (SIZE // 20, SIZE):
        seconds, text = slowest(EVERY[place], size)
        assert seconds < SECONDS, f"{EVERY[place]} takes {seconds:.1f} s for {text!r}"

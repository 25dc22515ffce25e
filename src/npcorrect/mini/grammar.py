"""From a prompt in English to its meaning::

    prompt   = ["a photo of"] group {("," | "and" | "with") group} | group relation group
    group    = [count] {size | colour} noun ["on the" region]
    relation = "to the left of" | "to the right of" | "above" | "below" | ...

Nouns come in any plural, right or wrong ("one pink bottles"), and by their usual other names. A
prompt is read whole or refused, and a refusal names the word and the nearest that are known.
"""

from __future__ import annotations

import difflib
import re

from npcorrect.errors import PromptError
from npcorrect.mini.language import (
    COUNT_WORDS,
    MAX_TOKENS,
    REGION_SYNONYMS,
    REGIONS,
    RELATION_SYNONYMS,
    SIZE_SYNONYMS,
    SIZE_WORDS,
    Group,
    Spec,
)
from npcorrect.mini.scene import COLORS, MAX_THINGS
from npcorrect.mini.spelling import spellings
from npcorrect.mini.things import THINGS

MAX_LENGTH = 300
"""Characters of the longest prompt that is read."""
REFUSED = ("next to", "beside", "near", "behind", "in front of", "inside", "between", "on top of")
"""Relations that a flat picture of separate things cannot show."""

_NOUNS = {form: kind.name for kind in THINGS.values() for form in spellings(kind)}
_SINGULARS = {name for kind in THINGS.values() for name in (kind.name, *kind.synonyms)}
_COUNTS = {"a": 1, "an": 1} | {word: n for n, word in enumerate(COUNT_WORDS, 1)}
_COUNTS |= {str(n): n for n in range(1, len(COUNT_WORDS) + 1)}
_SIZES = {word: word for word in SIZE_WORDS} | SIZE_SYNONYMS
_REGION_WORDS = {region: region for region in REGIONS} | REGION_SYNONYMS
_KNOWN = sorted(
    {*_SINGULARS, *COLORS, *SIZE_WORDS, *COUNT_WORDS, *RELATION_SYNONYMS, *_REGION_WORDS}
)
_RELATION = re.compile(
    r"(?<!\bthe)\s("
    + "|".join(sorted(map(re.escape, RELATION_SYNONYMS), key=len, reverse=True))
    + r")\s"
)
_SEPARATOR = re.compile(r"(?<!\s)\s*,\s*(?:and\s)?\s*|\sand\s|\swith\s")
_OPENING = re.compile(r"^(?:an?|the) (?:photo|picture|image|drawing) (?:of|with) ")


def parse(prompt: str) -> Spec:
    """The meaning of a prompt.

    Raises:
        PromptError: the prompt has a word or an order that the grammar lacks, or asks for more
            than the model can draw.
    """
    if len(prompt) > MAX_LENGTH:
        raise PromptError(
            f"The prompt has {len(prompt)} characters and the embedded model reads at most "
            f"{MAX_LENGTH}; shorten it, or choose another model."
        )
    words = " ".join(prompt.lower().split()).rstrip(" .!")
    words = _OPENING.sub("", words).replace("grey", "gray")
    for relation in REFUSED:
        if re.search(rf"\b{relation}\b", words):
            raise PromptError(
                f"The embedded model cannot draw {relation!r} in the prompt {prompt!r}; say where "
                "things stand with 'to the left of', 'to the right of', 'above' or 'below'."
            )
    spec = _related(words, prompt) or Spec(_groups(words, prompt))
    _check_size(spec, prompt)
    return spec


def _related(words: str, prompt: str) -> Spec | None:
    """Two groups with a relation between them, or None where the prompt has none."""
    match = _RELATION.search(words)
    if not match:
        return None
    phrases = words[: match.start()], words[match.end() :]
    groups = tuple(group for phrase in phrases for group in _groups(phrase, prompt))
    if len(groups) != 2:
        raise PromptError(
            f"The prompt {prompt!r} places {len(groups)} kinds of things with {match[1]!r}, which "
            "stands between two; or say 'on the left', 'on the right', 'above' or 'below' of each."
        )
    return Spec(groups, RELATION_SYNONYMS[match[1]])


def _groups(words: str, prompt: str) -> tuple[Group, ...]:
    groups = tuple(_group(phrase, prompt) for phrase in _SEPARATOR.split(words) if phrase)
    if not groups:
        raise PromptError("The prompt is empty; write for example 'three red apples and a cup'.")
    return groups


def _group(phrase: str, prompt: str) -> Group:
    words = phrase.removeprefix("the ").split()
    count = _COUNTS.get(words[0])
    unsaid = words[0] == "some"
    rest, region = _region(words[1:] if count or unsaid else words)
    color = size = None
    while rest[1:] and rest[0] in {**COLORS, **_SIZES} and " ".join(rest) not in _NOUNS:
        word, *rest = rest
        if word in COLORS and color is None:
            color = word
        elif word in _SIZES and size is None:
            size = _SIZES[word]
        else:
            raise _unread(phrase, prompt)
    noun = " ".join(rest)
    if noun not in _NOUNS:
        raise _unread(noun or phrase, prompt)
    if not (count or unsaid) and noun in _SINGULARS:
        count = 1
    return Group(_NOUNS[noun], count, color, size, region)


def _region(words: list[str]) -> tuple[list[str], str | None]:
    """The words without "on the left" at their end, and the region."""
    tail = words[-4:-1] if words[-1:] == ["side"] else words[-3:]
    if len(tail) < 3 or tail[0] not in ("on", "in", "at") or tail[1] != "the":
        return words, None
    region = _REGION_WORDS.get(tail[2])
    return (words[: words.index(tail[0])] if region else words), region


def _check_size(spec: Spec, prompt: str) -> None:
    """Raises PromptError where the prompt asks for more than the model can draw."""
    kinds = [group.kind for group in spec.groups]
    if len(set(kinds)) < len(kinds):
        raise PromptError(
            f"The prompt {prompt!r} names one kind of thing twice; ask for each kind once, "
            "for example 'two red apples and one blue cup'."
        )
    total = sum(group.count or 2 for group in spec.groups)
    if total > MAX_THINGS:
        raise PromptError(
            f"The prompt {prompt!r} asks for {total} things and the embedded model draws at most "
            f"{MAX_THINGS}; ask for fewer."
        )
    for region in REGIONS:
        if sum(group.count or 2 for group in spec.groups if group.region == region) > 3:
            raise PromptError(
                f"The prompt {prompt!r} asks for more than three things on one side, where the "
                "embedded model has room for three; ask for fewer."
            )
    if len(spec.tokens()) >= MAX_TOKENS:
        raise PromptError(
            f"The prompt {prompt!r} says {len(spec.tokens())} things and the embedded model reads "
            f"at most {MAX_TOKENS - 1}; leave out a size, a colour or a kind."
        )


def _unread(phrase: str, prompt: str) -> PromptError:
    """The refusal of a phrase, by its first unknown word where there is one."""
    parts = {part for known in (*_KNOWN, *_NOUNS) for part in known.split()}
    small = {"some", "a", "an", "the", "of", "on", "in", "at", "to", "side"}
    unknown = [word for word in phrase.split() if word not in parts | small]
    word = unknown[0] if unknown else phrase
    hint = nearest(word)
    what = "does not know the word" if unknown else "cannot read"
    return PromptError(
        f"The embedded model {what} {word!r} in the prompt {prompt!r}; {hint}. Write for example "
        "'three red apples and one blue cup'."
    )


def nearest(word: str) -> str:
    """A clause that names the words nearest to one that the grammar does not know."""
    close = difflib.get_close_matches(word, _KNOWN, n=3, cutoff=0.6)
    if close:
        return f"the nearest that it knows: {', '.join(close)}"
    return f"it knows {len(THINGS)} things and counts to {COUNT_WORDS[-1]}"

"""What a text says of a picture: groups of things, counted, coloured, sized and placed.

:class:`Spec` is the meaning of a prompt, of a caption and of a negative alike. Its tokens are what
the text encoders read; :func:`build_tokenizer` makes the same tokens of any spelling.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tokenizers import Regex, normalizers
from transformers import PreTrainedTokenizerFast

from npcorrect.english import NUMBERS, RELATION_WORDS
from npcorrect.mini.everyday.scene import COLORS
from npcorrect.mini.everyday.things import THINGS, Kind, many
from npcorrect.mini.parts import word_ids, word_tokenizer

MAX_COUNT = 9
MAX_TOKENS = 16
"""Text tokens of a prompt, the end mark included; FLUX's ``max_sequence_length``."""
COUNT_WORDS = NUMBERS[1 : MAX_COUNT + 1]
SIZE_WORDS = ("small", "medium", "large", "smaller", "larger")
REGIONS = ("left", "right", "above", "below")
SIZE_SYNONYMS = {
    "big": "large",
    "bigger": "larger",
    "huge": "large",
    "little": "small",
    "tiny": "small",
}
REGION_SYNONYMS = {"top": "above", "bottom": "below"}
RELATION_SYNONYMS = RELATION_WORDS | {"beneath": "below", "underneath": "below"}
RELATIONS = ("to the left of", "to the right of", "above", "below")
REMARKS = ("extra objects", "wrong color", "wrong number")
"""What captions say of a picture that is not as it was meant to be."""
RELATION_TOKENS = dict(zip(RELATIONS, ("left_of", "right_of", "over", "under"), strict=True))


def kind_token(name: str) -> str:
    """The one token of a kind: ``"wine_glass"``; the fruit is told from the colour."""
    return "orange_fruit" if name == "orange" else name.replace(" ", "_")


VOCABULARY = (
    *COUNT_WORDS,
    "some",
    *SIZE_WORDS,
    *COLORS,
    *REGIONS,
    *RELATION_TOKENS.values(),
    *(remark.replace(" ", "_") for remark in REMARKS),
    *(kind_token(name) for name in THINGS),
)
TOKEN_IDS = word_ids(VOCABULARY)


@dataclass(frozen=True)
class Group:
    """``count`` things of one kind; ``None`` stands for whatever the text does not say."""

    kind: str
    count: int | None = None
    color: str | None = None
    size: str | None = None
    region: str | None = None

    def text(self) -> str:
        """The phrase: ``"three red apples on the left"`` or, without a count, ``"apples"``."""
        many = THINGS[self.kind].plural
        noun = self.kind if self.count == 1 else many
        unsaid = "some" if many == self.kind else None
        number = NUMBERS[self.count] if self.count else unsaid
        place = f"on the {self.region}" if self.region else None
        return " ".join(word for word in (number, self.size, self.color, noun, place) if word)

    def tokens(self) -> list[str]:
        """The words that the text encoders see; one thing needs no number."""
        count = "some" if self.count is None else COUNT_WORDS[self.count - 1]
        words = (None if self.count == 1 else count, self.size, self.color, kind_token(self.kind))
        return [word for word in (*words, self.region) if word]


@dataclass(frozen=True)
class Spec:
    """The meaning of a text: groups of things, how the first two stand to each other, remarks."""

    groups: tuple[Group, ...] = ()
    relation: str | None = None
    remarks: tuple[str, ...] = ()

    def text(self) -> str:
        """The text in its one canonical form."""
        phrases = [group.text() for group in self.groups]
        if self.relation:
            return ", ".join((f"{phrases[0]} {self.relation} {phrases[1]}", *self.remarks))
        if len(phrases) > 1 and not self.remarks:
            return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return ", ".join((*phrases, *self.remarks))

    def tokens(self) -> list[str]:
        """The words that the text encoders see."""
        parts = [group.tokens() for group in self.groups]
        if self.relation:
            parts.insert(1, [RELATION_TOKENS[self.relation]])
        words = [word for part in parts for word in part]
        return words + [remark.replace(" ", "_") for remark in self.remarks]

    def token_ids(self) -> list[int]:
        """Ids of the tokens and of the end mark, padded or cut to :data:`MAX_TOKENS`."""
        ids = [TOKEN_IDS[word] for word in self.tokens()[: MAX_TOKENS - 1]]
        ids.append(TOKEN_IDS["</s>"])
        return ids + [TOKEN_IDS["<pad>"]] * (MAX_TOKENS - len(ids))


def spellings(kind: Kind) -> tuple[str, ...]:
    """Every way to write a kind, right plurals and wrong ones included, the longest first."""
    names = (kind.name, *kind.synonyms)
    forms = {form for name in names for form in (name, f"{name}s", f"{name}es", many(name))}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _replace(pattern: str, word: str) -> normalizers.Normalizer:
    return normalizers.Replace(Regex(pattern), word)


def _kind_rules() -> list[normalizers.Normalizer]:
    """One rule a kind; kinds whose names contain others' come first."""
    kinds = sorted(THINGS.values(), key=lambda kind: -len(kind.name.split()))
    kinds.sort(key=lambda kind: kind.name == "tv")
    rules = []
    for kind in kinds:
        if kind.name != "orange":
            forms = "|".join(map(re.escape, spellings(kind)))
            rules.append(_replace(rf"\b(?:{forms})\b", kind_token(kind.name)))
    return rules


def _plural_rules() -> list[normalizers.Normalizer]:
    """ "some" before groups that begin without a number and name a plural."""
    singulars = {name for kind in THINGS.values() for name in (kind.name, *kind.synonyms)}
    plurals = {form for kind in THINGS.values() for form in spellings(kind)} - singulars
    many = "|".join(sorted(plurals, key=len, reverse=True))
    adjectives = "|".join((*COLORS, *SIZE_WORDS, *SIZE_SYNONYMS))
    return [
        _replace(
            rf"{start} (?:the )?(?=(?:(?:{adjectives}) )*(?:{many}|orange_fruits)\b)",
            f"{start} some ",
        )
        for start in (";", *RELATION_TOKENS.values())
    ]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word of :data:`VOCABULARY`; words without a meaning here are dropped."""
    places = "and|with|on|in|at|to|left|right|above|below|over|under|beneath|underneath"
    synonyms = SIZE_SYNONYMS | REGION_SYNONYMS | {"grey": "gray"}
    relations = [
        _replace(rf"(?<!the )\b{words}\b", f" {RELATION_TOKENS[meaning]} ")
        for words, meaning in sorted(RELATION_SYNONYMS.items(), key=lambda pair: -len(pair[0]))
    ]
    remarks = (_replace(rf"\b{remark}\b", remark.replace(" ", "_")) for remark in REMARKS)
    rules = (
        normalizers.Lowercase(),
        _replace(r"\bcolour", "color"),
        *remarks,
        _replace(r"\borange(?:s|es)\b", "orange_fruits"),
        _replace(rf"\borange(?=\s*(?:[,.;!]|$)|\s+(?:{places})\b)", "orange_fruit"),
        _replace(r"^\s*(?:an?|the) (?:photo|picture|image|drawing) (?:of|with)\b", " "),
        _replace(r",|\band\b|\bwith\b", " ; "),
        normalizers.Prepend("; "),
        _replace(r"[^a-z0-9_;]+", " "),
        *(_replace(rf"\b{other}\b", word) for other, word in synonyms.items()),
        *relations,
        _replace(r" +", " "),
        *_plural_rules(),
        _replace("orange_fruits", "orange_fruit"),
        *_kind_rules(),
        *(_replace(rf"\b{n}\b", word) for n, word in enumerate(COUNT_WORDS, 1)),
        _replace(r"\b(?:an?|the|one|side|of|on|in|at|to)\b|;", " "),
    )
    return word_tokenizer(TOKEN_IDS, rules, MAX_TOKENS)

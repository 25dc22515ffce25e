"""What a text says of a picture: groups of things, counted, coloured, sized and placed.

:class:`Spec` is the meaning of a prompt, of a caption and of a negative alike. Its tokens are what
the text encoders read; :mod:`npcorrect.mini.spelling` makes the same of any spelling.
"""

from __future__ import annotations

from dataclasses import dataclass

from npcorrect.english import NUMBERS, RELATION_WORDS
from npcorrect.mini.scene import COLORS, MAX_THINGS
from npcorrect.mini.things import THINGS

MAX_TOKENS = 16
"""Text tokens of a prompt, the end mark included; FLUX's ``max_sequence_length``."""
COUNT_WORDS = NUMBERS[1 : MAX_THINGS + 1]
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
OPPOSITES = {
    "left": "right",
    "above": "below",
    "small": "large",
    "smaller": "larger",
    "to the left of": "to the right of",
}
OPPOSITES |= {word: other for other, word in OPPOSITES.items()}
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
SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
TOKEN_IDS = {word: i for i, word in enumerate((*SPECIAL_TOKENS, *VOCABULARY))}


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

"""Which text tokens a word is: by the tokenizer's own offsets, never by looking for substrings.

Where a prompt's tokens come to lie among the text's keys depends on what the family's pipeline
writes around it, and on what it drops afterwards.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass

from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.text import dropped, fast
from npcorrect.english import ARTICLES, in_words
from npcorrect.errors import SettingsError
from npcorrect.lexicon import singular
from npcorrect.records import Checklist

_MINOR = ARTICLES | {"of", "to", "on", "in", "at", "and"}


@dataclass(frozen=True)
class Token:
    """A token of a prompt's words: its place among the text's keys, its characters' range."""

    place: int
    start: int
    stop: int


@dataclass(frozen=True)
class Frame:
    """What a pipeline writes around a prompt, and how many first tokens it drops afterwards."""

    before: str
    after: str
    dropped: int = 0


def prompt_tokens(model: PipelineModel, prompt: str) -> tuple[Token, ...]:
    """The tokens of a prompt's words, without marks, padding and what the pipeline adds.

    Words that the tokenizer leaves out, or joins to one token, belong to the token after them.
    """
    name = type(model.pipeline).__name__
    readings = READINGS.get(name, ((model.family.text.encoders[0][0], 0),))
    frame = FRAMES.get(name, _frame)(model)
    text, begin = f"{frame.before}{prompt}{frame.after}", len(frame.before)
    words = []
    for tokenizer, first in readings:
        covered = 0
        read = fast(getattr(model.pipeline, tokenizer))(text=text, return_offsets_mapping=True)
        for place, (start, stop) in enumerate(read["offset_mapping"], first - frame.dropped):
            start, stop = max(start - begin, 0), min(stop - begin, len(prompt))
            if start < stop and prompt[start:stop].strip():
                left_out = re.search(r"\w", prompt[covered:start])
                words.append(Token(place, covered + left_out.start() if left_out else start, stop))
                covered = stop
    return tuple(words)


def places_of(tokens: Sequence[Token], prompt: str, phrase: str) -> tuple[int, ...]:
    """The places of a phrase's tokens, wherever it stands in the prompt as whole words.

    Raises:
        SettingsError: the prompt does not have it.
    """
    words = r"\s+".join(map(re.escape, phrase.split()))
    ranges = [match.span() for match in re.finditer(rf"(?i)(?<!\w){words}(?!\w)", prompt)]
    if not phrase.strip() or not ranges:
        raise SettingsError(
            f"The term {phrase!r} is no word of the prompt {prompt!r}; name words that it has."
        )
    return tuple(
        token.place
        for token in tokens
        if any(token.start < stop and start < token.stop for start, stop in ranges)
    )


def salient_terms(checklist: Checklist) -> tuple[str, ...]:
    """The prompt's words that a requirement is about, in any inflection, in the prompt's order."""
    absent = {c.subject for c in checklist.requirements if c.kind == "count" and c.value == "0"}
    named: set[str] = set()
    for claim in checklist.requirements:
        if claim.subject and claim.subject not in absent:
            text = f"{claim.subject} {claim.object} {claim.value} {in_words(claim.value)}"
            named.update(map(singular, re.findall(r"\w+", text.lower())))
    words = dict.fromkeys(re.findall(r"\w+", checklist.prompt.lower()))
    return tuple(word for word in words if word not in _MINOR and singular(word) in named)


def _frame(model: PipelineModel) -> Frame:
    """The family's template around a prompt, found by a text that no template has."""
    spec, mark = model.family.text, "\u2045"
    template = spec.prompt_template or spec.template
    before, _, after = template(model.pipeline, mark).partition(mark)
    return Frame(before, after, dropped(model.pipeline))


def _sana(model: PipelineModel) -> Frame:
    """Of the instruction's tokens the pipeline keeps the first, and it counts one too many."""
    parameters = inspect.signature(type(model.pipeline).__call__).parameters
    before = "\n".join(parameters["complex_human_instruction"].default)
    return Frame(before, "", len(model.pipeline.tokenizer.encode(before)) - 2)


_CLIP_TOKENS = 77
READINGS = {"StableDiffusion3Pipeline": (("tokenizer", 0), ("tokenizer_3", _CLIP_TOKENS))}
"""Pipelines whose denoiser reads a prompt more than once: tokenizers, and where each begins."""
FRAMES = {"SanaPipeline": _sana}
"""Pipelines that frame a prompt otherwise than their family's template says."""

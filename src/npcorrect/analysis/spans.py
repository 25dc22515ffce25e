"""Which text tokens a word is: by the tokenizer's own offsets, never by looking for substrings.

A pipeline's row says through which tokenizers its denoiser reads a prompt, what it writes around
the prompt, and where the tokens come to lie among the text's keys.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from npcorrect.errors import ModelError, SettingsError
from npcorrect.types import Checklist
from npcorrect.words import ARTICLES, forms, in_words

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

    before: str = ""
    after: str = ""
    dropped: int = 0


def _bare(pipeline: Any) -> Frame:
    return Frame()


@dataclass(frozen=True)
class Reading:
    """One way of a prompt into the denoiser.

    ``tokenizer`` is an attribute of the pipeline, ``first`` the place of its first token.
    """

    tokenizer: str
    first: int = 0
    frame: Callable[[Any], Frame] = _bare


def prompt_tokens(pipeline: Any, prompt: str) -> tuple[Token, ...]:
    """The tokens of a prompt's words, without marks, padding and what the pipeline adds.

    Raises:
        ModelError: it is not known how the pipeline reads text.
    """
    name = type(pipeline).__name__
    if name not in READINGS:
        raise ModelError(f"How a {name} reads text is not known; it is for {', '.join(READINGS)}.")
    found = []
    for reading in READINGS[name]:
        frame = reading.frame(pipeline)
        tokenizer, begin = getattr(pipeline, reading.tokenizer), len(frame.before)
        text = f"{frame.before}{prompt}{frame.after}"
        read = tokenizer(text=text, return_offsets_mapping=True)["offset_mapping"]
        for place, (start, stop) in enumerate(read, reading.first - frame.dropped):
            start, stop = max(start - begin, 0), min(stop - begin, len(prompt))
            if start < stop and prompt[start:stop].strip():
                found.append(Token(place, start, stop))
    return tuple(found)


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
            named.update(form for word in re.findall(r"\w+", text.lower()) for form in forms(word))
    words = dict.fromkeys(re.findall(r"\w+", checklist.prompt.lower()))
    return tuple(word for word in words if word not in _MINOR and forms(word) & named)


def _chat(thinking: bool) -> Callable[[Any], Frame]:
    def frame(pipeline: Any) -> Frame:
        """The chat template around the prompt, which stands where a rare text stands."""
        mark = "\u2045prompt\u2046"
        text = pipeline.tokenizer.apply_chat_template(
            [{"role": "user", "content": mark}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        before, _, after = text.partition(mark)
        return Frame(before, after)

    return frame


def _qwen_image(pipeline: Any) -> Frame:
    before, after = pipeline.prompt_template_encode.split("{}")
    return Frame(before, after, pipeline.prompt_template_encode_start_idx)


def _kandinsky5(pipeline: Any) -> Frame:
    before, after = pipeline.prompt_template.split("{}")
    return Frame(before, after, pipeline.prompt_template_encode_start_idx)


def _lumina2(pipeline: Any) -> Frame:
    return Frame(f"{pipeline.system_prompt} <Prompt Start> ")


def _sana(pipeline: Any) -> Frame:
    """The instruction's tokens are dropped but for the first one; the pipeline counts one less."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    before = "\n".join(parameters["complex_human_instruction"].default)
    return Frame(before, dropped=len(pipeline.tokenizer.encode(before)) - 2)


_CLIP_TOKENS = 77
READINGS: dict[str, tuple[Reading, ...]] = {
    "FluxPipeline": (Reading("tokenizer_2"),),
    "ChromaPipeline": (Reading("tokenizer"),),
    "StableDiffusionPipeline": (Reading("tokenizer"),),
    "StableDiffusionXLPipeline": (Reading("tokenizer"),),
    "StableDiffusion3Pipeline": (Reading("tokenizer"), Reading("tokenizer_3", _CLIP_TOKENS)),
    "PixArtSigmaPipeline": (Reading("tokenizer"),),
    "PixArtAlphaPipeline": (Reading("tokenizer"),),
    "SanaPipeline": (Reading("tokenizer", frame=_sana),),
    "QwenImagePipeline": (Reading("tokenizer", frame=_qwen_image),),
    "Kandinsky5T2IPipeline": (Reading("tokenizer", frame=_kandinsky5),),
    "Lumina2Pipeline": (Reading("tokenizer", frame=_lumina2),),
    "ZImagePipeline": (Reading("tokenizer", frame=_chat(thinking=True)),),
    "Flux2KleinPipeline": (Reading("tokenizer", frame=_chat(thinking=False)),),
}

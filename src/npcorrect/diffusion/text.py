"""Token-level states of an image model's own text encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from npcorrect.diffusion.base import Reading, TokenStates

if TYPE_CHECKING:
    from torch import Tensor

_PLACE = "\ue000"
"""Stands for the text in a template; a character that no prompt has."""

_DROPPED = ("prompt_template_encode_start_idx", "user_prompt_begin_id")
"""What pipelines call :func:`dropped`."""


def bare(pipeline: Any, text: str) -> str:
    """The text itself: the template of families that write nothing around a prompt."""
    return text


def lowered(pipeline: Any, text: str) -> str:
    """The text in lower case without outer blanks, as PixArt's and Sana's pipelines tidy it."""
    return text.lower().strip()


def prompt_template(name: str) -> Callable[[Any, str], str]:
    """The template that a pipeline has under this name, with ``{}`` for the text."""
    return lambda pipeline, text: str(getattr(pipeline, name).format(text))


def between(before: str, after: str) -> Callable[[Any, str], str]:
    """The template of a pipeline that has what comes ``before`` a text and ``after`` it apart."""
    return lambda pipeline, text: getattr(pipeline, before) + text + getattr(pipeline, after)


def chat(thinking: bool, after_system: bool = False) -> Callable[[Any, str], str]:
    """The tokenizer's own chat template, with the text as the user's message.

    There it comes ``after_system``, the pipeline's own words, where these are no message.
    """

    def template(pipeline: Any, text: str) -> str:
        before = pipeline.system_prompt if after_system else ""
        return str(
            pipeline.tokenizer.apply_chat_template(
                [{"role": "user", "content": before + text}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=thinking,
            )
        )

    return template


@dataclass(frozen=True)
class TextSpec:
    """Which encoders give a family's token-level states, and how they are called.

    ``encoders`` are pairs of a tokenizer's and an encoder's name in the pipeline; their states lie
    side by side. ``layers`` picks hidden states by number, side by side too, unless the pipeline
    names its own; without any, the last one after the final norm is taken. ``masked`` says whether
    padding is hidden from the encoder, ``padded`` whether every text is padded to the model's full
    length, because padding shows.
    ``template`` is what the encoder reads for a text; tokens before the text are the same for every
    text and are left out, tokens after it count as special. ``prompt_template`` is what it reads
    for a prompt, where that differs from a negative. ``framed`` says whether the tokenizer adds its
    special tokens.
    """

    encoders: tuple[tuple[str, str], ...]
    layers: tuple[int, ...] = ()
    masked: bool = True
    padded: bool = False
    template: Callable[[Any, str], str] = bare
    prompt_template: Callable[[Any, str], str] | None = None
    framed: bool = True

    def read(self, reading: Reading) -> TextSpec:
        """This record with the settings of another :data:`~npcorrect.diffusion.base.Reading`."""
        if reading == "alone":
            return replace(self, masked=True, padded=False, template=bare, framed=False)
        return replace(self, masked=True, padded=True) if reading == "masked" else self

    def encode(self, pipeline: Any, texts: Sequence[str], length: int) -> list[TokenStates]:
        """Token states ``(T, D)`` of each text, read at most ``length`` tokens, the model's."""
        import torch

        before, after = self.template(pipeline, _PLACE).split(_PLACE)
        whole = [self.template(pipeline, text) for text in texts]
        layers = getattr(pipeline, "text_encoder_select_layers", self.layers)
        parts = [
            self._states(
                getattr(pipeline, tokenizer),
                getattr(pipeline, encoder),
                [spelled_out(pipeline, tokenizer, text) for text in whole],
                length,
                layers,
            )
            for tokenizer, encoder in self.encoders
        ]
        states = torch.cat([states for states, _ in parts], dim=-1).float().cpu().numpy()
        batch = parts[0][1]
        encoded = []
        for i, text in enumerate(whole):
            starts = np.array(batch["offset_mapping"][i])[:, 0]
            kept = np.array(batch["attention_mask"][i]).astype(bool)
            special = np.array(batch["special_tokens_mask"][i]).astype(bool)
            if before:
                # A token may begin with the blank before the text.
                kept &= starts >= len(before.rstrip(" "))
            if after:
                special |= starts >= len(text) - len(after)
            encoded.append(TokenStates(np.ascontiguousarray(states[i][kept]), special[kept]))
        return encoded

    def _states(
        self, tokenizer: Any, encoder: Any, texts: list[str], length: int, layers: Sequence[int]
    ) -> tuple[Tensor, Any]:
        import torch

        read = fast(tokenizer)
        if not self.padded:
            ids = read(texts, add_special_tokens=self.framed)["input_ids"]
            length = max(1, *map(len, ids))
        batch = read(
            texts,
            add_special_tokens=self.framed,
            padding="max_length",
            max_length=length,
            return_special_tokens_mask=True,
            return_offsets_mapping=True,
            padding_side="right",
        )
        device = encoder.device
        ids = torch.tensor(batch["input_ids"], device=device)
        mask = torch.tensor(batch["attention_mask"], device=device) if self.masked else None
        output = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=bool(layers))
        if not layers:
            return output.last_hidden_state, batch
        return torch.cat([output.hidden_states[k] for k in layers], dim=-1), batch

    def count(self, pipeline: Any, text: str, prompt: bool) -> int:
        """The number of tokens that a text takes of the pipeline's ``max_sequence_length``."""
        template = self.prompt_template if prompt and self.prompt_template else self.template
        name = self.encoders[0][0]
        whole = spelled_out(pipeline, name, template(pipeline, text))
        return len(fast(getattr(pipeline, name))(whole)["input_ids"]) - dropped(pipeline)


def spelled_out(pipeline: Any, tokenizer: str, text: str) -> str:
    """The text with every token of a textual inversion that has several vectors, as it is read."""
    convert = getattr(pipeline, "maybe_convert_prompt", None)
    return str(convert(text, getattr(pipeline, tokenizer))) if convert else text


def dropped(pipeline: Any) -> int:
    """The number of a template's first tokens that a pipeline leaves out of what it reads."""
    return next((int(getattr(pipeline, name)) for name in _DROPPED if hasattr(pipeline, name)), 0)


def fast(tokenizer: Any) -> Any:
    """The tokenizer itself, or the one within a processor of texts and pictures."""
    return getattr(tokenizer, "tokenizer", tokenizer)

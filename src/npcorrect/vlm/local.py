"""Image-text-to-text models of transformers, in this process."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from time import perf_counter, sleep
from typing import Any

import llguidance.hf
import numpy as np
import torch
from jinja2 import TemplateError
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList

from npcorrect.errors import BudgetError, ModelError
from npcorrect.vlm.base import Message, Question, Reply, Usage
from npcorrect.vlm.budget import Till
from npcorrect.vlm.processors import load_processor
from npcorrect.vlm.replies import UnusableError, choice_in, object_in

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SETTLING = 0.02
"""Seconds between looks at whether the budget has room again."""
LIKELY = 1000
"""First tokens that are told with their probabilities, where these are asked for."""
BATCH = 8
"""Questions that are answered together."""


class LocalVLM:
    """A model in this process. Questions of a kind are answered together, up to :data:`BATCH`.

    Choices are read off the logits of the first token, which gives their probabilities; where two
    choices begin with the same token they are generated instead, without probabilities. Objects are
    generated under a grammar that allows nothing but their schema.
    """

    def __init__(self, name: str, model: Any, processor: Any, till: Till | None = None) -> None:
        self.name = name
        self._model, self._processor, self._till = model, processor, till or Till()
        self._tokenizer = processor.tokenizer
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._grammar: LLTokenizer | None = None
        self._lock = Lock()

    @classmethod
    def load(
        cls, identifier: str, device: str = "cpu", dtype: str = "float32", till: Till | None = None
    ) -> LocalVLM:
        """Load a model of the hub or of a folder, from safetensors and without its own code.

        Raises:
            ModelError: it cannot be loaded, or has no chat template.
        """
        if dtype not in DTYPES:
            raise ModelError(f"The dtype {dtype!r} is unknown; use {', '.join(DTYPES)}.")
        processor = load_processor(identifier)
        if not getattr(processor, "chat_template", None):
            raise ModelError(
                f"The model {identifier!r} has no chat template; choose one that was tuned to chat."
            )
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                identifier, dtype=DTYPES[dtype], use_safetensors=True
            )
            model = model.to(device).eval().requires_grad_(False)
        except (OSError, ValueError, RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(
                f"The model {identifier!r} cannot be loaded to {device!r} ({reason}); it must be "
                "an image-text-to-text model with safetensors."
            ) from None
        return cls(f"local:{identifier}", model, processor, till)

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer all questions, in order; see :class:`~npcorrect.vlm.base.VLM`."""
        groups: dict[Any, list[int]] = defaultdict(list)
        for place, question in enumerate(questions):
            groups[self._kind(question)].append(place)
        replies: dict[int, Reply] = {}
        with self._lock:
            for places in groups.values():
                for first in range(0, len(places), BATCH):
                    batch = places[first : first + BATCH]
                    answers = self._batch([questions[place] for place in batch])
                    replies.update(zip(batch, answers, strict=True))
        return [replies[place] for place in range(len(questions))]

    def _kind(self, question: Question) -> Any:
        """What questions must have in common to be answered together."""
        pictures = any(message.images for message in question.messages)
        reads = bool(question.choices) and self._first_tokens(question.choices) is not None
        return (
            pictures, reads, question.tokens, question.temperature, question.max_tokens,
            question.seed,
        )  # fmt: skip

    def _batch(self, questions: Sequence[Question]) -> list[Reply]:
        """Replies to all, together as far as the budget allows it."""
        replies: list[Reply] = []
        while rest := questions[len(replies) :]:
            try:
                held = self._held(rest)
            except BudgetError as error:
                stop = Reply("", str(error), model=self.name, stopped=True)
                return [*replies, *[stop] * len(rest)]
            replies += self._answers(rest[: len(held)], held)
        return replies

    def _held(self, questions: Sequence[Question]) -> list[Usage]:
        """What is set aside for the first question, and for those after it as far as there is room.

        Raises:
            BudgetError: there is none for the first.
        """
        while (worst := self._till.hold(questions[0])) is None:
            sleep(_SETTLING)
        held = [worst]
        with suppress(BudgetError):
            for question in questions[1:]:
                if (worst := self._till.hold(question)) is None:
                    break
                held.append(worst)
        return held

    def _answers(self, questions: Sequence[Question], held: Sequence[Usage]) -> list[Reply]:
        """Replies to questions for which the budget holds something."""
        start = perf_counter()
        inputs = self._inputs(questions)
        read = inputs["attention_mask"].sum(dim=1).tolist()
        with torch.inference_mode(), torch.random.fork_rng(enabled=questions[0].temperature > 0):
            if questions[0].temperature > 0 and questions[0].seed is not None:
                torch.manual_seed(questions[0].seed)
            if questions[0].tokens:
                drafts = self._first(inputs)
            elif questions[0].choices and self._first_tokens(questions[0].choices):
                drafts = self._choose(questions, inputs)
            else:
                drafts = self._generate(questions, inputs)
        seconds = (perf_counter() - start) / len(questions)
        replies = []
        rows = zip(questions, drafts, read, held, strict=True)
        for question, (reply, written), tokens, worst in rows:
            usage = self._till.settle(question, worst, Usage(1, tokens, written, seconds))
            replies.append(replace(reply, usage=usage, model=self.name))
        return replies

    def _inputs(self, questions: Sequence[Question]) -> Any:
        pictures = [[i.convert("RGB") for m in q.messages for i in m.images] for q in questions]
        return self._processor(
            text=[self._prompt(question) for question in questions],
            images=pictures if any(pictures) else None,
            padding=True,
            return_tensors="pt",
        ).to(self._model.device, self._model.dtype)

    def _prompt(self, question: Question) -> str:
        messages = list(question.messages)
        last = messages[-1]
        if question.choices:
            words = f"Answer with one word alone: {' or '.join(question.choices)}."
            messages[-1] = replace(last, text=f"{last.text}\n\n{words}")
        elif question.schema is not None:
            words = f"Answer with one JSON object that meets {json.dumps(question.schema)}"
            messages[-1] = replace(last, text=f"{last.text}\n\n{words}")
        try:
            return self._templated(messages)
        except TemplateError:
            # Some templates know no system message; its text then opens the user's.
            system, user, *others = messages
            return self._templated([replace(user, text=f"{system.text}\n\n{user.text}"), *others])

    def _templated(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": _content(message)} for message in messages]
        prompt = self._processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False
        )
        return str(prompt)

    def _choose(self, questions: Sequence[Question], inputs: Any) -> list[tuple[Reply, int]]:
        """The likeliest choice, or one drawn by its probability where there is a temperature."""
        logits = self._model(**inputs).logits[:, -1].float()
        likely = logits.softmax(dim=-1).cpu()
        drafts = []
        for question, row in zip(questions, likely, strict=True):
            tokens = self._first_tokens(question.choices) or {}
            mass = torch.stack([row[ids].sum() for ids in tokens.values()])
            share = mass / mass.sum() if mass.sum() > 0 else torch.full_like(mass, 1 / len(mass))
            place = int(share.argmax())
            if question.temperature > 0:
                place = int((share ** (1 / question.temperature)).multinomial(1))
            chances = dict(zip(question.choices, share.tolist(), strict=True))
            drafts.append((Reply(question.choices[place], probabilities=chances), 1))
        return drafts

    def _first(self, inputs: Any) -> list[tuple[Reply, int]]:
        """The likeliest first tokens, with their probabilities among all."""
        logits = self._model(**inputs).logits[:, -1].float()
        likely = logits.softmax(dim=-1).cpu().topk(min(LIKELY, logits.shape[-1]), dim=-1)
        drafts = []
        for values, ids in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
            texts = [self._tokenizer.decode([token]) for token in ids]
            tokens: dict[str, float] = defaultdict(float)
            for text, value in zip(texts, values, strict=True):
                tokens[text] += value
            drafts.append((Reply(texts[0], tokens=dict(tokens)), 1))
        return drafts

    def _first_tokens(self, choices: Sequence[str]) -> dict[str, list[int]] | None:
        """The tokens that each choice may begin with, or None where they do not tell them apart."""
        first: dict[str, set[int]] = {}
        for choice in choices:
            forms = (choice, choice.capitalize(), f" {choice}", f" {choice.capitalize()}")
            tokens = (self._tokenizer(form, add_special_tokens=False).input_ids for form in forms)
            first[choice] = {ids[0] for ids in tokens if ids}
        shared = {
            token for one in first for other in first if one != other
            for token in first[one] & first[other]
        }  # fmt: skip
        own = {choice: sorted(tokens - shared) for choice, tokens in first.items()}
        return own if all(own.values()) else None

    def _generate(self, questions: Sequence[Question], inputs: Any) -> list[tuple[Reply, int]]:
        first = questions[0]
        length = inputs["input_ids"].shape[1]
        grammar = _Grammar(self._grammar_tokenizer(), [_rules(q) for q in questions], length)
        sampling = {"temperature": first.temperature} if first.temperature > 0 else {}
        tokens = self._model.generate(
            **inputs,
            max_new_tokens=first.max_tokens,
            do_sample=first.temperature > 0,
            logits_processor=LogitsProcessorList([grammar]),
            pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=self._tokenizer.eos_token_id,
            **sampling,
        )[:, length:].cpu()
        return [self._draft(question, row) for question, row in zip(questions, tokens, strict=True)]

    def _draft(self, question: Question, tokens: Tensor) -> tuple[Reply, int]:
        """What was generated, and its number of tokens."""
        ends = (tokens == self._tokenizer.eos_token_id).nonzero()
        written = int(ends[0]) + 1 if len(ends) else len(tokens)
        text = self._tokenizer.decode(tokens[:written], skip_special_tokens=True).strip()
        try:
            if question.schema is not None:
                return Reply(object_in(text, question.schema)), written
            if question.choices:
                return Reply(choice_in(text, question.choices)), written
        except UnusableError as error:
            return Reply(text, f"The model {self.name} gave no usable answer: {error}."), written
        return Reply(text, "" if text else f"The model {self.name} said nothing."), written

    def _grammar_tokenizer(self) -> LLTokenizer:
        if self._grammar is None:
            size = self._model.get_output_embeddings().weight.shape[0]
            self._grammar = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=size)
        return self._grammar


class _Grammar(LogitsProcessor):
    """Allows only tokens that go on with each row's grammar; rows without one are free."""

    def __init__(self, tokenizer: LLTokenizer, rules: Sequence[str | None], prompt: int) -> None:
        self._matchers = [LLMatcher(tokenizer, rule) if rule else None for rule in rules]
        self._end, self._prompt = tokenizer.eos_token, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores ``(B, V)`` with -inf where the grammar does not allow a token."""
        scores = scores.clone()
        for row, matcher in enumerate(self._matchers):
            if matcher is None:
                continue
            if input_ids.shape[1] > self._prompt and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if matcher.is_error():
                raise ModelError(f"The grammar of a reply failed: {matcher.get_error()}")
            allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
            if matcher.is_stopped():
                allowed[self._end] = True
            else:
                bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
                mask = np.unpackbits(bits, bitorder="little")[: len(allowed)].astype(bool)
                allowed[: len(mask)] = torch.from_numpy(mask)
            scores[row, ~allowed.to(scores.device)] = -torch.inf
        return scores


def _content(message: Message) -> list[dict[str, str]]:
    """A message in the form of chat templates."""
    text = {"type": "text", "text": message.text}
    pictures = [{"type": "image"}] * len(message.images)
    return [text, *pictures] if message.text_first else [*pictures, text]


def _rules(question: Question) -> str | None:
    if question.schema is not None:
        return _schema_rules(question.schema)
    if question.choices:
        words = (choice.replace("\\", "\\\\").replace('"', '\\"') for choice in question.choices)
        return str(LLMatcher.grammar_from_lark("start: " + " | ".join(f'"{w}"' for w in words)))
    return None


def _schema_rules(schema: Mapping[str, Any]) -> str:
    compact = {"x-guidance": {"whitespace_flexible": False}}
    return str(LLMatcher.grammar_from_json_schema({**schema, **compact}))

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
import torch
from jinja2 import TemplateError
from llguidance import LLTokenizer
from torch import Tensor
from transformers import AutoModelForImageTextToText, LogitsProcessorList

from npcorrect.diffusion.memory import release
from npcorrect.errors import BudgetError, ModelError
from npcorrect.vlm.base import Message, Question, Reply, Usage
from npcorrect.vlm.budget import Till
from npcorrect.vlm.capabilities import SINGLE, TOGETHER, agree
from npcorrect.vlm.constrained import Grammar, TopTokens
from npcorrect.vlm.probabilities import Token, of_fields
from npcorrect.vlm.processors import is_code_refused, load_processor, needs_code
from npcorrect.vlm.reasoning import UnusableError
from npcorrect.vlm.redaction import RAW_KEPT
from npcorrect.vlm.replies import read

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LIKELY = 1000
"""First tokens that are told with their probabilities, where these are asked for."""
_SETTLING = 0.02
"""Seconds between looks at whether the budget has room again."""
BATCH = 8
"""Questions that are answered together."""


class LocalVLM:
    """A model in this process. Questions of a kind are answered together, up to :data:`BATCH`.

    Choices are read off the logits of the first token, which gives their probabilities; where two
    choices begin with the same token they are generated instead, without probabilities. Objects are
    generated under a grammar that allows nothing but their schema; the probabilities of choices in
    them are those of the model before the grammar.
    """

    remote = False

    def __init__(self, name: str, model: Any, processor: Any, till: Till | None = None) -> None:
        self.name, self.together = name, False
        self._model, self._processor, self._till = model, processor, till or Till()
        self._device = model.device
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
                identifier,
                dtype=DTYPES[dtype],
                use_safetensors=True,
                trust_remote_code=False,
            )
            model = model.to(device).eval().requires_grad_(False)
        except Exception as error:  # whatever a foreign loader raises, the user needs one sentence
            if is_code_refused(error):
                raise needs_code(identifier) from None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"The model {identifier!r} cannot be loaded to {device!r} ({reason}); it must be "
                "an image-text-to-text model with safetensors."
            ) from None
        return cls(f"local:{identifier}", model, processor, till)

    def connect(self) -> None:
        """Find out whether claims asked together get the answers that they get singly."""
        together, *single = self.ask([TOGETHER, *SINGLE])
        self.together = agree(together, single)

    def enter(self) -> None:
        """Bring the model to its device; see :class:`npcorrect.card.Resident`."""
        self._model.to(self._device)

    def leave(self) -> None:
        """Keep the model in main memory; see :class:`npcorrect.card.Resident`."""
        self._model.to("cpu")
        release()

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
        others = question.tokens, question.temperature, question.max_tokens, question.seed
        return pictures, self._is_read_off(question), bool(question.choices), *others

    def _is_read_off(self, question: Question) -> bool:
        """Whether the answer is read off the logits of the first token."""
        choice = bool(question.choices) and question.schema is None
        return choice and self._first_tokens(question.choices) is not None

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
            elif self._is_read_off(questions[0]):
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
        if question.schema is not None:
            words = f"Answer with one JSON object that meets {json.dumps(question.schema)}"
            messages[-1] = replace(last, text=f"{last.text}\n\n{words}")
        elif question.choices:
            words = f"Answer with one word alone: {' or '.join(question.choices)}."
            messages[-1] = replace(last, text=f"{last.text}\n\n{words}")
        try:
            return self._templated(messages)
        except TemplateError:
            # Some templates know no system message; its text then opens the user's.
            system, user, *others = messages
            return self._templated([replace(user, text=f"{system.text}\n\n{user.text}"), *others])

    def _templated(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": _content(message)} for message in messages]
        template = str(self._processor.chat_template)
        switch = {"enable_thinking": False} if "enable_thinking" in template else {}
        prompt = self._processor.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False, **switch
        )
        return _without_open_thought(str(prompt))

    def _choose(self, questions: Sequence[Question], inputs: Any) -> list[tuple[Reply, int]]:
        """The likeliest choice, or one drawn by its probability where there is a temperature."""
        logits = self._model(**inputs).logits[:, -1].float()
        likely = logits.softmax(dim=-1).cpu()
        drafts = []
        for question, row in zip(questions, likely, strict=True):
            tokens = self._first_tokens(question.choices) or {}
            mass = torch.stack([row[ids].sum() for ids in tokens.values()])
            if not mass.sum() > 0:  # nor where the logits are no numbers
                drafts.append((self._unusable("", "none of the words is possible"), 1))
                continue
            share = mass / mass.sum()
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
        distinct = {choice: sorted(tokens - shared) for choice, tokens in first.items()}
        return distinct if all(distinct.values()) else None

    def _generate(self, questions: Sequence[Question], inputs: Any) -> list[tuple[Reply, int]]:
        first = questions[0]
        length = inputs["input_ids"].shape[1]
        top = TopTokens() if first.choices else None
        grammar = Grammar(self._grammar_tokenizer(), questions, length)
        sampling = {"temperature": first.temperature} if first.temperature > 0 else {}
        tokens = self._model.generate(
            **inputs,
            max_new_tokens=first.max_tokens,
            do_sample=first.temperature > 0,
            logits_processor=LogitsProcessorList([*([top] if top else []), grammar]),
            pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=self._tokenizer.eos_token_id,
            **sampling,
        )[:, length:].cpu()
        return [
            self._draft(question, row[: self._length(row)], top.of_row(place) if top else [])
            for place, (question, row) in enumerate(zip(questions, tokens, strict=True))
        ]

    def _length(self, tokens: Tensor) -> int:
        """The number of tokens up to the one that ends the text."""
        ends = (tokens == self._tokenizer.eos_token_id).nonzero()
        return int(ends[0]) + 1 if len(ends) else len(tokens)

    def _draft(
        self, question: Question, tokens: Tensor, likely: Sequence[Mapping[int, float]]
    ) -> tuple[Reply, int]:
        """What was generated, and its number of tokens."""
        written = len(tokens)
        text = self._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        try:
            answer = read(text, question)
        except UnusableError as error:
            return self._unusable(text, str(error)), written
        if question.schema is None or not question.choices:
            return Reply(answer.text), written
        listed = [
            Token(self._token(token), {self._token(t): p for t, p in place.items()})
            for token, place in zip(tokens.tolist(), likely, strict=False)
        ]
        greedy = question.temperature == 0
        fields = of_fields(text, answer, listed, question.choices, greedy=greedy)
        return Reply(answer.text, fields=fields), written

    def _unusable(self, text: str, reason: str) -> Reply:
        return Reply(text[:RAW_KEPT], f"The model {self.name} gave no usable answer: {reason}.")

    def _token(self, token: int) -> str:
        return str(self._tokenizer.convert_ids_to_tokens(token))

    def _grammar_tokenizer(self) -> LLTokenizer:
        if self._grammar is None:
            size = self._model.get_output_embeddings().weight.shape[0]
            self._grammar = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=size)
        return self._grammar


def _content(message: Message) -> list[dict[str, str]]:
    """A message in the form of chat templates."""
    text = {"type": "text", "text": message.text}
    pictures = [{"type": "image"}] * len(message.images)
    return [text, *pictures] if message.text_first else [*pictures, text]


def _without_open_thought(prompt: str) -> str:
    """The prompt, with an end to the thought that its template may begin."""
    return f"{prompt}\n</think>\n\n" if prompt.rstrip().endswith("<think>") else prompt

"""One prompt under several negatives and seeds: what the picture attends to in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from npcorrect.analysis.layouts import layout_of
from npcorrect.analysis.measures import Words
from npcorrect.analysis.spans import places_of, prompt_tokens, salient_terms
from npcorrect.analysis.trace import Attention, trace
from npcorrect.diffusion.base import UNWATCHED, Watch
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import SettingsError
from npcorrect.proposing import source_of
from npcorrect.records import Checklist, Drawing, Generation, Request, Source

Role = Literal["none", "empty"] | Source
"""What a negative is: not there, the empty text, or a :data:`~npcorrect.records.Source`."""


@dataclass(frozen=True)
class Condition:
    """A negative to draw with, and its role; no negative where it is None."""

    negative: str | None
    role: Role

    @property
    def label(self) -> str:
        """The condition's name in pictures and tables: its negative and role, or that none acts."""
        texts = {"none": "no negative", "empty": "empty negative"}
        return texts.get(self.role) or f"{self.negative} ({self.role})"


@dataclass(frozen=True)
class AttentionSample:
    """One picture, and what its image tokens attended to in the prompt."""

    condition: Condition
    generation: Generation
    attention: Attention


@dataclass(frozen=True)
class Terms:
    """A prompt's terms with the places of their tokens, and the places of all its words."""

    places: dict[str, tuple[int, ...]]
    prompt: tuple[int, ...]

    @property
    def words(self) -> Words:
        """All words of the prompt, with all terms together as the salient ones."""
        salient = {place for places in self.places.values() for place in places}
        return Words(self.prompt, tuple(sorted(salient)))


def terms_of(model: PipelineModel, checklist: Checklist, wanted: Sequence[str] = ()) -> Terms:
    """The wanted terms of a prompt; by default the words that its requirements name.

    Raises:
        SettingsError: a term is not in the prompt, or the requirements name no word of it.
    """
    tokens = prompt_tokens(model, checklist.prompt)
    terms = tuple(dict.fromkeys(wanted)) or salient_terms(checklist)
    if not terms:
        raise SettingsError(
            f"The requirements of {checklist.prompt!r} name none of its words; "
            "say with --terms which words to look for."
        )
    places = {term: places_of(tokens, checklist.prompt, term) for term in terms}
    return Terms(places, tuple(token.place for token in tokens))


def conditions(checklist: Checklist, negatives: Sequence[str]) -> tuple[Condition, ...]:
    """No negative first, for comparison, then each negative with its role."""
    under = [Condition(None, "none")]
    for negative in dict.fromkeys(negatives):
        role: Role = source_of(negative, checklist) if negative.strip() else "empty"
        under.append(Condition(negative, role))
    return tuple(under)


def compare(
    model: PipelineModel,
    request: Request,
    seeds: Sequence[int],
    terms: Terms,
    under: Sequence[Condition],
    on_step: Callable[[Condition], Callable[[int, int], None]] | None = None,
) -> Iterator[AttentionSample]:
    """Draw each seed under each condition, ``request.batch`` seeds at a time.

    The negative stays what it is and the seed too: no looks, no reseeding, no restart. What cannot
    be drawn is refused at once, all else happens as samples are asked for.

    Raises:
        InputError: the model cannot draw it, or its attention cannot be captured.
    """
    layout_of(model.stock.denoiser)
    plan = model.plan(replace(request, looks=0, rewinds=0, fresh=False, strength=1.0))
    for condition in under:
        model.check_text(condition.negative or "")
    groups = [
        (
            condition,
            [
                replace(plan.drawing(0, condition.negative), seed=seed)
                for seed in seeds[first : first + request.batch]
            ],
        )
        for condition in under
        for first in range(0, len(seeds), request.batch)
    ]
    return _samples(model, groups, terms, on_step)


def _samples(
    model: PipelineModel,
    groups: Sequence[tuple[Condition, Sequence[Drawing]]],
    terms: Terms,
    on_step: Callable[[Condition], Callable[[int, int], None]] | None,
) -> Iterator[AttentionSample]:
    for condition, drawings in groups:
        watch = Watch(on_step(condition)) if on_step else UNWATCHED
        with trace(model.stock.denoiser, [terms.places] * len(drawings)) as traced:
            drawn = model.draw(drawings, watch)
        for number, generation in enumerate(drawn):
            yield AttentionSample(condition, generation, traced.of(number))

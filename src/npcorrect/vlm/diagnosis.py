"""What can be said of a model before anything is drawn: what it can do, and how it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from npcorrect.errors import VLMError
from npcorrect.vlm.base import VLM, Question, Reply
from npcorrect.vlm.capabilities import CLAIMS, Capabilities, sample
from npcorrect.vlm.questions import ANSWERS, about_claim, ask

SIDE = 1024
"""Width and height of the picture that is asked about."""
CALLS = {True: (2, 8), False: (7, 23)}
"""Calls of a correction whose first picture is accepted, and of one that is redrawn, with claims
asked together and singly: medians of ``benchmarks/vlm_cost.py``."""


@dataclass(frozen=True)
class Estimate:
    """What a correction will take, in the median; ``money`` where the model has a price."""

    calls: int
    tokens: int
    money: float | None


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What a model can do, and how it answers.

    ``capabilities`` are None for a model in this process. A check of one claim takes ``seconds``
    and makes the model write ``tokens_written``, of which one or two are the answer and the rest
    is thought. ``orders_agree`` says of how many claims, among ``claims``, "yes or no" and "no or
    yes" got the same usable answer. Of ``trials`` times the same question, ``flips`` were answered
    otherwise than most, and ``unusable`` not at all. ``accepted`` and ``redrawn`` are what a
    correction will take that ends with its first picture, and one that goes on.
    """

    model: str
    capabilities: Capabilities | None
    together: bool
    seconds: float
    tokens_written: int
    claims: int
    orders_agree: int
    trials: int
    flips: int
    unusable: int
    accepted: Estimate
    redrawn: Estimate


def examine(vlm: VLM, trials: int = 20) -> Diagnosis:
    """Connect to a model and ask it a few dozen questions about a picture.

    Answers must not come from a file: open the model without one.

    Raises:
        InputError: nothing can be asked.
        VLMError: no check got a usable answer, or the budget ends.
    """
    vlm.connect()
    image = sample(SIDE)
    texts = tuple(CLAIMS.values())
    first = ask(vlm, [about_claim(text, image) for text in texts])
    second = ask(vlm, [_reversed(about_claim(text, image)) for text in texts])
    usable = [reply for reply in first if not reply.error]
    if not usable:
        raise VLMError(first[0].error, first[0].text)
    again = ask(vlm, [about_claim(texts[1], image, seed=seed) for seed in range(trials)])
    words = Counter(reply.text for reply in again if not reply.error)
    answered = words.total()
    accepted, redrawn = (_estimate(usable, calls) for calls in CALLS[vlm.together])
    return Diagnosis(
        model=vlm.name,
        capabilities=getattr(vlm, "capabilities", None),
        together=vlm.together,
        seconds=sum(reply.usage.seconds for reply in usable) / len(usable),
        tokens_written=max(reply.usage.output_tokens for reply in usable),
        claims=len(texts),
        orders_agree=sum(map(_same, first, second)),
        trials=trials,
        flips=answered - max(words.values(), default=0),
        unusable=trials - answered,
        accepted=accepted,
        redrawn=redrawn,
    )


def _reversed(question: Question) -> Question:
    """The question with its choices named in the other order."""
    return replace(question, choices=tuple(reversed(ANSWERS)))


def _same(one: Reply, other: Reply) -> bool:
    return not (one.error or other.error) and one.text == other.text


def _estimate(checks: Sequence[Reply], calls: int) -> Estimate:
    """So many calls, each as expensive as the mean of some checks of a picture."""
    tokens = sum(reply.usage.input_tokens + reply.usage.output_tokens for reply in checks)
    money = [reply.usage.money for reply in checks if reply.usage.money is not None]
    price = calls * sum(money) / len(money) if money else None
    return Estimate(calls, round(calls * tokens / len(checks)), price)

"""The records that flow through the program, in the order in which they come to be.

All are frozen; functions return new ones. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from PIL.Image import Image

Source = Literal["targeted", "untargeted", "combined", "fallback"]
"""Where a negative comes from: a failed check, unasked content, both, or a fixed list."""
Rule = Literal["paper", "extra", "turns", "nag"]
"""How the negative enters: in the empty branch's place, as a direction beside it (computed in every
step, or in turn with the empty branch), or in attention (NAG)."""


@dataclass(frozen=True)
class Request:
    """What the user wants drawn, and how. ``None`` leaves a choice to the model.

    ``window`` is the number of first steps in which the negative acts when it is an ``int``, and a
    share of all steps, 0 to 1, when it is a ``float``. ``looks`` is how often each redrawing is
    looked at while it emerges, to renew its negative. ``strength`` is the share of the steps that a
    redrawing takes, beginning from the noised original; at 1 it begins from noise alone. Where the
    last look finds it wrong, it goes back to that beginning, up to ``rewinds`` times. With
    ``reseed``, attempt k has the seed ``seed + k`` instead of the original's. ``batch`` candidates
    are drawn together.
    """

    prompt: str
    seed: int = 0
    max_candidates: int = 5
    num_inference_steps: int | None = None
    true_cfg_scale: float | None = None
    negative_scale: float | None = None
    rule: Rule | None = None
    window: int | float | None = None
    looks: int | None = None
    strength: float | None = None
    rewinds: int | None = None
    reseed: bool | None = None
    height: int | None = None
    width: int | None = None
    batch: int = 1


@dataclass(frozen=True)
class Requirement:
    """One checkable claim of a prompt.

    ``kind`` is one of object, count, attribute, size, relation, only, scene, text, style. ``text``
    says the claim as a sentence. ``subject`` is a singular noun, ``value`` what is claimed of it
    ("3", "red", "large", "to the left of"), ``object`` the other noun of a relation. A claim is
    moot while one that it depends on fails.
    """

    id: str
    kind: str
    text: str
    subject: str
    value: str
    object: str = ""
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Checklist:
    """All that a prompt asks for."""

    prompt: str
    requirements: tuple[Requirement, ...]


@dataclass(frozen=True)
class Generation:
    """One picture and exactly how it was drawn. ``evaluations`` counts denoiser calls (NFE).

    ``steering`` lists the looks that changed the negative: the step, from 0, from which on the text
    beside it acted instead of the one before; None where the emerging picture was right. The
    picture began at ``start_step``, from 0, and went back there ``rewinds`` times. ``latents`` are
    what its model may begin another picture with, and mean nothing to anyone else.
    """

    image: Image = field(repr=False, compare=False)
    prompt: str
    negative_prompt: str | None
    seed: int
    num_inference_steps: int
    true_cfg_scale: float
    negative_scale: float
    rule: Rule
    window_steps: int
    evaluations: int
    seconds: float
    steering: tuple[tuple[int, str | None], ...] = ()
    start_step: int = 0
    rewinds: int = 0
    latents: object = field(default=None, repr=False, compare=False)

    @property
    def negatives(self) -> tuple[str, ...]:
        """Every negative that acted on the picture, in order, each once."""
        texts = (self.negative_prompt, *(text for _, text in self.steering))
        return tuple(dict.fromkeys(text for text in texts if text))


@dataclass(frozen=True)
class Check:
    """The verifier's word on one requirement; ``passed`` is None when it could not be scored.

    ``confidence`` is how sure the verifier is of that word, 0 to 1: of several votes, the share
    that agrees. ``probability`` is that of the claim itself, where the verifier gives one. ``raw``
    is what came in place of an answer, where there was none.
    """

    requirement: Requirement
    passed: bool | None
    observed: str = ""
    confidence: float | None = None
    probability: float | None = None
    raw: str = ""


@dataclass(frozen=True)
class Verdict:
    """All checks of one picture.

    ``error`` says why a picture, or a check, is unscored; ``raw`` is what came in place of an
    answer, where nothing was scored at all.
    """

    checks: tuple[Check, ...]
    error: str = ""
    raw: str = ""

    @property
    def accepted(self) -> bool | None:
        """True or False, or None where a check that matters could not be scored."""
        if any(check.passed is False for check in self.checks):
            return False
        if not self.checks or any(check.passed is None for check in self.checks):
            return None
        return True

    @property
    def score(self) -> float | None:
        """Share of the scored requirements that hold, 0 to 1; None where none was scored."""
        scored = [check.passed for check in self.checks if check.passed is not None]
        return sum(scored) / len(scored) if scored else None

    @property
    def probability(self) -> float | None:
        """Mean probability of the claims, which tells equal scores apart; None where none is known.

        A claim without a probability counts as its verdict, and an unscored one not at all.
        """
        if all(check.probability is None for check in self.checks):
            return None
        known = [
            float(check.passed) if check.probability is None else check.probability
            for check in self.checks
            if check.passed is not None
        ]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Caption:
    """What a picture shows: a sentence, and the bare phrases that it is made of."""

    text: str
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A negative prompt, where it comes from, and why it was proposed."""

    negative_prompt: str
    source: Source
    reason: str = ""


@dataclass(frozen=True)
class Ranked:
    """A candidate with its text-space score and the parts that the score is the sum of."""

    candidate: Candidate
    score: float
    parts: tuple[tuple[str, float], ...] = ()


def add_money(one: float | None, other: float | None) -> float | None:
    """The sum of two prices, of which an unknown one (None) adds nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


@dataclass(frozen=True)
class Cost:
    """What something took. Costs add up with ``+``.

    ``tokens`` are those read and written by VLMs; ``retries`` counts the calls that had to be sent
    again, which ``vlm_calls`` includes. ``money`` is in the currency of the user's price table,
    and None where it has no price.
    """

    images: int = 0
    evaluations: int = 0
    vlm_calls: int = 0
    tokens: int = 0
    seconds: float = 0.0
    retries: int = 0
    money: float | None = None

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.images + other.images,
            self.evaluations + other.evaluations,
            self.vlm_calls + other.vlm_calls,
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            self.retries + other.retries,
            add_money(self.money, other.money),
        )


@dataclass(frozen=True)
class Attempt:
    """One picture of a correction: the original has index 0 and no candidate."""

    index: int
    generation: Generation
    verdict: Verdict
    ranked: Ranked | None = None
    caption: Caption | None = None
    cost: Cost = Cost()


@dataclass(frozen=True)
class Result:
    """A finished correction. ``best`` is the index of the chosen attempt, the original included."""

    request: Request
    checklist: Checklist
    attempts: tuple[Attempt, ...]
    best: int

    @property
    def accepted(self) -> bool:
        """Whether the verifier accepted the chosen picture."""
        return self.attempts[self.best].verdict.accepted is True

    @property
    def cost(self) -> Cost:
        """The whole cost."""
        return sum((attempt.cost for attempt in self.attempts), Cost())

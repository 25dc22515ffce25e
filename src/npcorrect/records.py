"""The records that flow through the program, in the order in which they come to be.

All are frozen; functions return new ones. Nothing here imports torch, and no record holds a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import ConfigDict

from npcorrect.errors import ModelError
from npcorrect.settings import DrawSettings

Source = Literal["targeted", "untargeted", "combined", "fallback"]
"""Where a negative comes from: a failed check, unasked content, both, or a fixed list."""


@dataclass(frozen=True)
class Request(DrawSettings):
    """What the user wants drawn, and the settings of :class:`~npcorrect.settings.DrawSettings`."""

    prompt: str


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
    """All that a prompt asks for, as requirements that a picture can be checked by."""

    prompt: str
    requirements: tuple[Requirement, ...]


@dataclass(frozen=True, eq=False)
class Origin:
    """What a model can begin another picture with: clean latents of one picture.

    ``latents`` have the layout of the model's own denoiser, one row, float32. ``sigmas`` are the
    noise levels of the schedule that they were drawn by, one more than there are steps, the last 0.
    Origins are compared by identity and mean nothing to another ``model``.
    """

    model: str
    latents: NDArray[np.float32]
    sigmas: NDArray[np.float32]

    def check(self, model: str) -> None:
        """Refuse it for a model of another name.

        Raises:
            ModelError: it means nothing to that model.
        """
        if self.model != model:
            raise ModelError(
                f"The model {model!r} cannot begin with a picture of {self.model!r}; draw the "
                "original with the same model, or give a strength of 1."
            )


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture to draw, with every choice made: what a request becomes on a model.

    The negative acts in the steps from ``window[0]`` up to before ``window[1]``, counted from 0;
    ``standing_negative``, the user's own, acts in every step, in place of the text that the family
    has for the unconditional branch. Where the two ``share_branch``, they are one text in the
    window.
    The emerging picture is looked at before each of ``look_steps``. With an ``origin`` it begins
    at ``restart_step`` with that picture noised, without one with noise alone at step 0; where its
    last look finds it wrong, it goes back to ``restart_step`` up to ``max_rewinds`` times. A server
    that takes no number of steps draws in one, and one that takes no scale has scale 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    prompt: str
    seed: int
    negative_prompt: str | None = None
    standing_negative: str | None = None
    share_branch: bool = False
    num_inference_steps: int
    true_cfg_scale: float
    negative_scale: float
    rule: str
    window: tuple[int, int]
    look_steps: tuple[int, ...] = ()
    height: int
    width: int
    restart_step: int = 0
    max_rewinds: int = 0
    origin: Origin | None = field(default=None, repr=False)

    @property
    def branch_text(self) -> str | None:
        """What the negative's branch reads in the window; None where no negative acts."""
        if self.negative_prompt is None or not self.share_branch:
            return self.negative_prompt
        return joined(self.standing_negative, self.negative_prompt) or self.negative_prompt


@dataclass(frozen=True)
class Receipt:
    """In what the negative of one picture acted, rewinds included.

    ``evaluations`` counts the guided predictions that it was part of, one for each call of the
    scheduler; they belong to steps from ``start`` up to before ``stop``, counted from 0. ``moved``
    says how far: the mean over these predictions of
    ``||with the negative - without it|| / ||without it||``, Euclidean norms over the whole picture.
    Nothing is evaluated for it. Without the negative is plain guidance, by rule 'turns' with the
    newest difference from the unconditional branch; by rule 'paper', which computes no
    unconditional branch, the prompt's prediction alone; by rule 'nag', which acts within attention,
    the features of the image tokens before they are guided, a mean over attention modules; by rule
    'vsf' the same of some image tokens, and what they attend to without the negative's. It is None
    where nothing acted, or where what is compared is zero or not finite.
    """

    evaluations: int = 0
    start: int | None = None
    stop: int | None = None
    moved: float | None = None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One picture and exactly how it was drawn.

    ``evaluations`` counts denoiser calls (NFE), and is 0 where a server drew, which does not say.

    ``steering`` lists the looks that changed the negative or sent the picture back: the step, from
    0, from which on the text beside it acted; None where the emerging picture was right. The
    picture began at ``start_step``, from 0, went back there ``rewinds`` times, and was looked at
    ``looks`` times; ``answers`` has what each look said: the negative from then on, and whether the
    picture was wrong. ``receipt`` says in what the negative acted, None where the picture was drawn
    without one. ``origin`` is what its model may begin another picture with.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)

    image: Image = field(repr=False, compare=False)
    drawing: Drawing
    evaluations: int
    seconds: float
    steering: tuple[tuple[int, str | None], ...] = ()
    start_step: int = 0
    rewinds: int = 0
    looks: int = 0
    answers: tuple[tuple[str | None, bool], ...] = ()
    receipt: Receipt | None = None
    origin: Origin | None = field(default=None, repr=False, compare=False)

    @property
    def _replaced_in_time(self) -> bool:
        """Whether a look took the first negative away before it acted."""
        if self.receipt is None or not self.steering:
            return False
        begun, (replaced, _) = self.receipt.start, self.steering[0]
        return begun is None or (replaced <= begun and not self.rewinds)

    @property
    def negatives(self) -> tuple[str, ...]:
        """Every negative that acted on the picture, in order, each once."""
        texts = (self.drawing.negative_prompt, *(text for _, text in self.steering))
        if self._replaced_in_time:
            texts = texts[1:]
        return tuple(dict.fromkeys(text for text in texts if text))


@dataclass(frozen=True)
class Check:
    """The verifier's word on one requirement; ``passed`` is None when it could not be scored.

    ``confidence`` is how sure the verifier is of that word, 0 to 1: of several votes, the share
    that agrees. ``probability`` is that of the claim itself, where the verifier gives one. ``raw``
    is what came in place of an answer, where there was none. ``skipped`` claims were not asked,
    since another had failed already: they are neither right nor wrong.
    """

    requirement: Requirement
    passed: bool | None
    observed: str = ""
    confidence: float | None = None
    probability: float | None = None
    raw: str = ""
    skipped: bool = False


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
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed, without those that did only because another did."""
        wrong = {check.requirement.id for check in self.checks if check.passed is False}
        return tuple(
            check
            for check in self.checks
            if check.passed is False and wrong.isdisjoint(check.requirement.depends_on)
        )

    @property
    def skipped(self) -> tuple[Requirement, ...]:
        """The claims that were not asked, since another had failed already."""
        return tuple(check.requirement for check in self.checks if check.skipped)

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


def joined(*negatives: str | None) -> str | None:
    """Negatives as one text, with commas between; None where none says anything."""
    return ", ".join(text for text in negatives if text and text.strip()) or None


def add_money(one: float | None, other: float | None) -> float | None:
    """The sum of two prices, of which an unknown one (None) adds nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


@dataclass(frozen=True)
class Usage:
    """What answers took. Usages add up with ``+``.

    ``calls`` counts every request that was sent to a model; ``retries`` those of them that were
    sent again. ``readings`` counts the answers of roles that ask no model. ``money`` is in the
    currency of the user's price table, and None where it has no price. ``swaps`` counts how often
    the card changed hands between models that do not fit on it together.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    retries: int = 0
    money: float | None = None
    readings: int = 0
    swaps: int = 0

    @property
    def tokens(self) -> int:
        """The number of tokens, those read and those written together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            seconds=self.seconds + other.seconds,
            retries=self.retries + other.retries,
            money=add_money(self.money, other.money),
            readings=self.readings + other.readings,
            swaps=self.swaps + other.swaps,
        )


@dataclass(frozen=True)
class Cost:
    """What something took. Costs add up with ``+``; ``usage`` is that of the roles."""

    images: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    usage: Usage = Usage()

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.images + other.images,
            self.evaluations + other.evaluations,
            self.seconds + other.seconds,
            self.usage + other.usage,
        )


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One picture of a correction: the original has index 0 and no candidate."""

    index: int
    generation: Generation
    verdict: Verdict
    ranked: Ranked | None = None
    caption: Caption | None = None
    cost: Cost = Cost()

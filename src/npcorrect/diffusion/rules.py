"""The guidance rules: how a negative enters. A class and a row each. Imports no torch.

An instance acts in one draw. It says which branch a step computes beside the prompt's, and combines
the predictions into what the pipeline is given as its second branch, from which the pipeline's own
``u + scale (v_pos - u)`` makes the guided prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import TYPE_CHECKING, ClassVar

from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.guidance import dynamic_rule, extra_rule, stand_in
from npcorrect.plan import Defaults

if TYPE_CHECKING:
    from torch import Tensor

Predictions = Mapping[Branch, "Tensor"]


class Rule:
    """Base of the rules. ``scale`` is the true CFG scale, ``weight`` the negative's own.

    ``replaces`` rules put the negative in the unconditional branch's place. ``renewable`` ones act
    beside it, so that a look can renew the negative; ``beside`` ones compute it in the same step.
    ``guided`` ones need classifier-free guidance; ``attends`` ones act within attention instead, as
    the family's row says. ``learns`` ones are told after each step what it says of the negative.
    ``delay`` is the number of steps with which a drawing begins and in which no negative acts yet.
    Where it ``weighs``, the negative has a weight of its own.
    """

    guided: ClassVar[bool] = True
    replaces: ClassVar[bool] = False
    renewable: ClassVar[bool] = False
    beside: ClassVar[bool] = False
    attends: ClassVar[bool] = False
    delay: ClassVar[int] = 0
    learns: ClassVar[bool] = False
    weighs: ClassVar[bool] = True

    def __init__(self, scale: float, weight: float) -> None:
        self.scale, self.weight = scale, weight

    @classmethod
    def default_window(cls, defaults: Defaults) -> float:
        """Share of the steps in which the negative acts where the request is silent."""
        return defaults.window

    @classmethod
    def default_guidance(cls, defaults: Defaults) -> float:
        """The true classifier-free guidance scale within the rule's own window."""
        return defaults.true_cfg_scale

    @classmethod
    def default_scale(cls, defaults: Defaults) -> float:
        """The negative's weight where the request is silent."""
        return defaults.negative_scale

    def first(self, acting: bool) -> Branch:
        """The branch that a step computes with the prompt's; ``acting``: a negative may act."""
        return "empty"

    def second(self, predictions: Predictions, acting: bool) -> Tensor:
        """The pipeline's second branch, ``(B, ...)``, from the predictions that the step computed.

        All predictions are of one shape. ``acting`` says whether a negative may act in this step.
        Where none does, this is the very tensor that :meth:`plain` returns.
        """
        return predictions["empty"]

    def plain(self, predictions: Predictions) -> Tensor:
        """The second branch, ``(B, ...)``, with which the step would be one without the negative.

        Looks see what emerges by it, and receipts say how far from it the negative has moved. To be
        asked before :meth:`second`; ``predictions`` are those that the step has computed by then.
        """
        return predictions["empty"]

    def learn(self, log_ratio: Tensor) -> None:
        """Take what a step says of the negative: ``(B,)``, see :func:`latents.log_ratio`."""


class Paper(Rule):
    """The negative in the unconditional branch's place: ``v_neg + scale (v_pos - v_neg)``.

    arXiv 2512.07702; classifier-free guidance as diffusers computes it, and so bit-equal to it.
    """

    replaces = True
    weighs = False

    @classmethod
    def default_window(cls, defaults: Defaults) -> float:
        """The share of the released schedule, 3 of 50 steps, but for families that have another."""
        return defaults.paper_window

    @classmethod
    def default_guidance(cls, defaults: Defaults) -> float:
        """The family's scale for this rule, if it has one."""
        return defaults.true_cfg_scale if defaults.paper_scale is None else defaults.paper_scale

    def first(self, acting: bool) -> Branch:
        """The negative's branch where it acts: it replaces the unconditional one."""
        return "negative" if acting else "empty"

    def second(self, predictions: Predictions, acting: bool) -> Tensor:
        """The negative's prediction ``(B, ...)`` unchanged, from which the pipeline guides."""
        return predictions[self.first(acting)]

    def plain(self, predictions: Predictions) -> Tensor:
        """The prompt's prediction, which alone is computed beside the negative's."""
        return predictions["positive" if "negative" in predictions else "empty"]


class Extra(Rule):
    """A direction beside the unconditional branch, three evaluations a step.

    ``v_empty + scale (v_pos - v_empty) + mu (v_pos - v_neg)``, with ``mu`` the weight; composable
    diffusion's negation (arXiv 2206.01714) has this form.
    """

    renewable = True
    beside = True

    def second(self, predictions: Predictions, acting: bool) -> Tensor:
        """The stand-in for the sum, ``(B, ...)``; the unconditional branch if no negative acts."""
        if not acting:
            return predictions["empty"]
        positive = predictions["positive"]
        return self.combined(positive, predictions["empty"], predictions["negative"])

    def combined(self, positive: Tensor, empty: Tensor, negative: Tensor) -> Tensor:
        """The second branch from which the pipeline arrives at the rule's sum; all ``(B, ...)``."""
        target = extra_rule(positive, empty, negative, self.scale, self.weight)
        return stand_in(target, positive, self.scale).to(empty.dtype)


class Turns(Extra):
    """As ``extra``, but a step computes the unconditional branch or the negative's, in turn.

    The difference to the prompt's prediction that a step does not compute stays as it was, so that
    a negative costs no third evaluation. The first step computes the unconditional branch, so that
    no negative acts in it.
    """

    beside = False
    delay = 1

    def __init__(self, scale: float, weight: float) -> None:
        super().__init__(scale, weight)
        self._differences: dict[Branch, Tensor] = {}
        self._last: Branch = "negative"

    def first(self, acting: bool) -> Branch:
        """Whichever was not computed last; without a negative, the unconditional branch."""
        return "negative" if acting and self._last == "empty" else "empty"

    def second(self, predictions: Predictions, acting: bool) -> Tensor:
        """The stand-in for the sum of the newest differences, ``(B, ...)``.

        While only one difference is known it is the prediction that the step computed.
        """
        positive = predictions["positive"]
        self._last = "negative" if "negative" in predictions else "empty"
        computed = predictions[self._last]
        self._differences[self._last] = positive - computed
        if not acting:
            self._differences.pop("negative", None)
        if len(self._differences) < 2:
            return computed
        empty, negative = (positive - self._differences[b] for b in ("empty", "negative"))
        return self.combined(positive, empty, negative)

    def plain(self, predictions: Predictions) -> Tensor:
        """The unconditional branch, or what its newest difference makes it in this step."""
        if "empty" in predictions:
            return predictions["empty"]
        return predictions["positive"] - self._differences["empty"]


class Dynamic(Extra):
    """Dynamic negative guidance (arXiv 2410.14398): the more the picture contains it, the stronger.

    ``v_empty + scale (v_pos - v_empty) - mu p / (1 - p) (v_neg - v_empty)``, with ``mu`` the weight
    and ``p`` the posterior probability that the picture contains the negative, estimated from the
    steps so far. A negative that has nothing to do with the picture switches itself off. It keeps
    one negative, which ``p`` is about.
    """

    renewable = False
    learns = True
    PRIOR: ClassVar[float] = 0.2
    """``p`` before the first step: the default of the authors' code."""
    LEAST: ClassVar[float] = 1e-6
    MOST: ClassVar[float] = 0.8
    """``p`` stays between these, as in their code and its example: the weight is at most 4 mu."""
    TEMPERATURE: ClassVar[float] = 600.0
    """Of the evidence for one number of a picture: about their 0.2 times the 3,072 of theirs."""

    def __init__(self, scale: float, weight: float) -> None:
        super().__init__(scale, weight)
        self._log_p: Tensor | None = None

    @classmethod
    def default_window(cls, defaults: Defaults) -> float:
        """A share of 1: the posterior says when the negative acts."""
        return 1.0

    def posterior(self, like: Tensor) -> Tensor:
        """``p`` of each picture, ``(B,)``; the prior before anything was learnt."""
        if self._log_p is None:
            return like.new_ones(like.shape[:1]).float() * self.PRIOR
        return self._log_p.exp()

    def combined(self, positive: Tensor, empty: Tensor, negative: Tensor) -> Tensor:
        """The second branch from which the pipeline arrives at the rule's sum; all ``(B, ...)``."""
        p = self.posterior(positive)
        # lambda(x, t) = mu p(n | x) / (1 - p(n | x)); the paper's equation for the guidance scale.
        weight = self.weight * p / (1 - p)
        target = dynamic_rule(positive, empty, negative, self.scale, weight)
        return stand_in(target, positive, self.scale).to(empty.dtype)

    def learn(self, log_ratio: Tensor) -> None:
        """Bayes' rule along the chain of steps, for each picture by itself; ``(B,)``."""
        # p(n | x_{t-1}) = p(n | x_t) (p(x_{t-1} | x_t, n) / p(x_{t-1} | x_t)) ^ T; algorithm 1.
        log_p = self.posterior(log_ratio).log() + self.TEMPERATURE * log_ratio.float()
        self._log_p = log_p.clamp(log(self.LEAST), log(self.MOST))


class Nag(Rule):
    """Normalized Attention Guidance (arXiv 2505.21179): the negative acts within attention.

    The weight is the paper's phi. It needs no guidance, so it works where a model was distilled to
    draw without.
    """

    guided = False
    attends = True

    @classmethod
    def default_window(cls, defaults: Defaults) -> float:
        """A share of 1: the negative acts in all steps, whatever the family's defaults are."""
        return 1.0

    @classmethod
    def default_scale(cls, defaults: Defaults) -> float:
        """The paper's phi by the family's defaults, ``nag_scale``."""
        return defaults.nag_scale


class Vsf(Nag):
    """Value Sign Flip (arXiv 2508.10931): the picture attends to the negative with flipped values.

    The weight is the paper's alpha. It acts within the one evaluation of a step.
    """

    @classmethod
    def default_scale(cls, defaults: Defaults) -> float:
        """The paper's alpha by the family's defaults, ``vsf_scale``."""
        return defaults.vsf_scale


RULES: Mapping[str, type[Rule]] = {
    "paper": Paper,
    "extra": Extra,
    "turns": Turns,
    "dynamic": Dynamic,
    "nag": Nag,
    "vsf": Vsf,
}

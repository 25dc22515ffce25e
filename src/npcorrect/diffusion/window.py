"""When the negative acts: a hook on the denoiser, so that no pipeline is forked.

A pipeline under guidance asks its denoiser for two branches a step: under the prompt, and under a
second text. The hook decides what the second one is, and whether it is computed at all. It counts
steps by itself, and every evaluation that really happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn

from npcorrect.diffusion.calls import Arguments, Calls
from npcorrect.diffusion.current_call import Branch, Evaluation, announce
from npcorrect.diffusion.guidance import extra_rule, paper_rule, rescaled, stand_in
from npcorrect.diffusion.nag import Nag


@dataclass(frozen=True)
class ExtraDirection:
    """What rule ``extra`` adds to some pictures of a batch.

    ``rows`` are their places in the batch; ``condition`` are the denoiser's arguments under their
    negatives, one row for each of those places.
    """

    rows: list[int]
    condition: Arguments


Steer = Callable[[int, Tensor, Tensor], ExtraDirection]
"""Called with a step, from 0, the noisy latents of the batch and the guided prediction, both as
the denoiser sees them; returns the direction from this step on."""


@dataclass
class Turns:
    """Rule ``turns``: how the prompt's prediction last differed from each of the other two."""

    from_empty: Tensor | None = None
    from_negative: Tensor | None = None
    empty_was_last: bool = False


@dataclass
class Extra:
    """Rule ``extra``: its scales, the direction now, and who renews it at which steps.

    With ``turns``, a step computes the empty branch or the negative's, not both; the difference
    that is not computed stays as it was. ``rescales`` says that the pipeline gives what it guided
    the norm of the positive prediction.
    """

    scale: float
    mu: float
    direction: ExtraDirection
    look_steps: tuple[int, ...] = ()
    steer: Steer | None = None
    rescales: bool = False
    turns: Turns | None = None


@dataclass(frozen=True)
class NagBranch:
    """Rule ``nag``: the attachment, and the denoiser's arguments under the negatives."""

    nag: Nag
    condition: Arguments


@dataclass(frozen=True)
class Plan:
    """What happens in each step of one draw of ``batch`` pictures.

    ``guided`` says whether the pipeline makes a second branch. Within ``window_steps`` it is the
    pipeline's own, whose text ``second`` tells. Afterwards ``empty`` takes its place if there is
    one; with ``alone`` it is not computed and the conditional branch stands alone; otherwise it
    stays. ``extra`` and ``nag`` act within the window. ``first`` is the number of the first
    picture, where others were drawn before it, ``start`` that of the first step.
    """

    batch: int
    guided: bool
    window_steps: float = inf
    alone: bool = False
    empty: Arguments | None = None
    extra: Extra | None = None
    nag: NagBranch | None = None
    second: Branch = "empty"
    first: int = 0
    start: int = 0


class Window(ModelHook):  # type: ignore[misc, unused-ignore]
    """The hook; ``evaluations`` counts the denoiser's rows so far, for each picture of a batch."""

    def __init__(self, calls: Calls, plan: Plan, on_step: Callable[[int], None] | None) -> None:
        super().__init__()
        self.calls, self.plan, self.on_step = calls, plan, on_step
        self.step = plan.start
        self.evaluations = torch.zeros(plan.batch, dtype=torch.long)
        self._pending: Tensor | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's ``forward``."""
        arguments = self.calls.bind(self.fn_ref.original_forward, args, kwargs)
        as_record = arguments.pop("return_dict", True)
        if not self.plan.guided:
            output = self._positive(arguments)
            self._advance()
        elif self.calls.order == "separate":
            output = self._one_of_two(arguments)
        else:
            output = self._both(arguments)
            self._advance()
        listed = isinstance(arguments[self.calls.state[0]], list)
        sample = list(output.unbind()) if listed else output
        return Transformer2DModelOutput(sample=sample) if as_record else (sample,)

    def _one_of_two(self, arguments: Arguments) -> Tensor:
        """A call for each branch, the positive one first."""
        if self._pending is None:
            self._pending = self._positive(arguments)
            return self._pending
        positive = self._pending
        branch = self._second(arguments)
        second = positive if branch is None else self._evaluate(branch, self._seconds)
        output = self._steered(arguments, positive, second)
        self._pending = None
        self._advance()
        return output

    def _both(self, arguments: Arguments) -> Tensor:
        """One call that holds both branches; what is skipped is left out of it."""
        positive, second = self.calls.split(arguments, self.plan.batch)
        branch = self._second(second)
        if branch is None:
            v_pos = v_second = self._positive(positive)
        elif self._nag() is not None:
            v_pos = self._positive(positive)
            v_second = self._evaluate(branch, self._seconds)
        else:
            both = arguments
            if branch is not second:
                both = self.calls.join(*self.calls.ordered(positive, branch))
            texts = self.calls.ordered("positive", *self._seconds)
            halves = self._evaluate(both, texts).chunk(2)
            v_pos, v_second = self.calls.ordered(*halves)
        v_second = self._steered(positive, v_pos, v_second)
        return torch.cat(self.calls.ordered(v_pos, v_second))

    @property
    def _inside(self) -> bool:
        return self.step < self.plan.window_steps

    def _nag(self) -> NagBranch | None:
        return self.plan.nag if self._inside else None

    def _second(self, second: Arguments) -> Arguments | None:
        """The branch to compute beside the positive one; None: none."""
        if self.plan.extra is not None and self._negatives_turn(self.plan.extra):
            return second | self.plan.extra.direction.condition
        if self._inside:
            return second
        if self.plan.alone:
            return None
        return second if self.plan.empty is None else second | self.plan.empty

    @property
    def _seconds(self) -> tuple[Branch]:
        """The text of the branch that :meth:`_second` gives."""
        if self.plan.extra is not None and self._negatives_turn(self.plan.extra):
            return ("negative",)
        replaced = not self._inside and self.plan.empty is not None
        return ("empty" if replaced else self.plan.second,)

    def _positive(self, arguments: Arguments) -> Tensor:
        branch = self._nag()
        if branch is None:
            return self._evaluate(arguments, ("positive",))
        negative = arguments | branch.nag.kept(branch.condition)
        with branch.nag.attached(arguments[self.calls.state[0]]):
            both = self._evaluate(self.calls.join(arguments, negative), ("positive", "negative"))
        return both[: self.plan.batch]

    def _steered(self, arguments: Arguments, positive: Tensor, empty: Tensor) -> Tensor:
        """The second branch that makes the pipeline's guidance equal rule ``extra``."""
        extra = self.plan.extra
        if extra is None or not self._inside:
            return empty
        if self._looks(extra):
            assert extra.steer is not None
            noisy = _stacked(arguments[self.calls.state[0]])
            guided = paper_rule(positive, empty, extra.scale)
            guided = rescaled(guided, positive) if extra.rescales else guided
            extra.direction = extra.steer(self.step, noisy, guided)
        if extra.turns is not None:
            return self._in_turn(extra, extra.turns, positive, empty)
        rows = extra.direction.rows
        if not rows:
            return empty
        own = self.calls.rows(arguments, rows, self.plan.batch)
        negative = self._evaluate(own | extra.direction.condition, ("negative",), rows)
        target = extra_rule(positive[rows], empty[rows], negative, extra.scale, extra.mu)
        second = empty.clone()
        second[rows] = stand_in(target, positive[rows], extra.scale).to(second.dtype)
        return second

    def _looks(self, extra: Extra) -> bool:
        return extra.steer is not None and self.step in extra.look_steps

    def _negatives_turn(self, extra: Extra) -> bool:
        """Whether this step computes the negative branch in the empty one's place."""
        able = extra.turns is not None and extra.turns.empty_was_last and extra.direction.rows
        return bool(able) and self._inside and not self._looks(extra)

    def _in_turn(self, extra: Extra, turns: Turns, positive: Tensor, second: Tensor) -> Tensor:
        """As :meth:`_steered`, where ``second`` is whichever branch had its turn."""
        negatives = self._negatives_turn(extra)
        if negatives:
            turns.from_negative = positive - second
        else:
            turns.from_empty = positive - second
        turns.empty_was_last = not negatives
        if not extra.direction.rows:
            turns.from_negative = None
        if turns.from_negative is None or turns.from_empty is None:
            return second
        empty, negative = positive - turns.from_empty, positive - turns.from_negative
        target = extra_rule(positive, empty, negative, extra.scale, extra.mu)
        return stand_in(target, positive, extra.scale).to(second.dtype)

    def _evaluate(
        self, arguments: Arguments, branches: Sequence[Branch], rows: list[int] | None = None
    ) -> Tensor:
        """One call of the denoiser, for all pictures or those at ``rows``, branch by branch."""
        pictures = list(range(self.plan.batch)) if rows is None else rows
        self.evaluations[pictures] += len(branches)
        numbers = [self.plan.first + picture for picture in pictures]
        whose = tuple((number, branch) for branch in branches for number in numbers)
        with announce(Evaluation(self.step, whose)):
            return _stacked(self.fn_ref.original_forward(**arguments, return_dict=True).sample)

    def _advance(self) -> None:
        self.step += 1
        if self.on_step is not None:
            self.on_step(self.step)


class Recorded(Exception):  # noqa: N818 (no error: the recording is done)
    """Ends a pipeline's call once the branch that was asked for is known."""


class Recorder(ModelHook):  # type: ignore[misc, unused-ignore]
    """Notes the arguments of a branch before the denoiser computes anything."""

    def __init__(self, calls: Calls, batch: int, second: bool) -> None:
        super().__init__()
        self.calls, self.batch, self.second = calls, batch, second
        self.arguments: Arguments = {}
        self._seen = 0

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Record, and end the call; pretend an answer where the branch is not there yet."""
        arguments = self.calls.bind(self.fn_ref.original_forward, args, kwargs)
        as_record = arguments.pop("return_dict", True)
        if self.second and self.calls.order == "separate" and not self._seen:
            self._seen = 1
            pretended = arguments[self.calls.state[0]]
            return Transformer2DModelOutput(sample=pretended) if as_record else (pretended,)
        if self.second and self.calls.order != "separate":
            _, arguments = self.calls.split(arguments, self.batch)
        self.arguments = self.calls.condition(arguments)
        raise Recorded


def _stacked(value: Any) -> Tensor:
    stacked: Tensor = torch.stack(value) if isinstance(value, list) else value
    return stacked


@contextmanager
def attached(denoiser: nn.Module, hook: Any) -> Iterator[Any]:
    """The hook on the denoiser, and off again whatever happens."""
    registry = HookRegistry.check_if_exists_or_initialize(denoiser)
    name = f"npcorrect_{type(hook).__name__.lower()}"
    registry.register_hook(hook, name)
    try:
        yield hook
    finally:
        registry.remove_hook(name)


@contextmanager
def window(
    denoiser: nn.Module, calls: Calls, plan: Plan, on_step: Callable[[int], None] | None = None
) -> Iterator[Window]:
    """Follow ``plan`` for one draw; ``on_step`` is told the number of each step done, from 1."""
    with attached(denoiser, Window(calls, plan, on_step)) as hook:
        yield hook

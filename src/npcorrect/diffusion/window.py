"""When the negative acts: a hook on the denoiser, so that no pipeline is forked.

A pipeline under guidance asks its denoiser for two branches a step: under the prompt, and under a
second text. The hook evaluates the branches that the rule needs in this step, and hands the
pipeline what the rule makes of them. It counts steps by itself, and every evaluation that really
happens.
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
from npcorrect.diffusion.guidance import paper_rule, rescaled
from npcorrect.diffusion.nag import NagSpec
from npcorrect.diffusion.rules import Rule


@dataclass(frozen=True)
class Negatives:
    """The negatives that act on a batch now.

    ``rows`` are the places of their pictures in the batch; ``condition`` are the denoiser's
    arguments under them, one row for each of those places.
    """

    rows: list[int]
    condition: Arguments


Steer = Callable[[int, Tensor, Tensor], Negatives]
"""Called with a step, from 0, the noisy latents of the batch and the guided prediction, both as
the denoiser sees them; returns the negatives from this step on."""


@dataclass
class GuidanceSchedule:
    """What happens in each step of one draw of ``batch`` pictures.

    ``guided`` says whether the pipeline makes a second branch, ``second`` of which text. From
    ``window[0]`` up to before ``window[1]`` the ``rule`` decides it. Outside, the unconditional
    branch guides, as the pipeline makes it or with the arguments in ``empty``; with ``alone`` it is
    not computed, and the prompt's branch stands alone. ``negatives`` are those that act now; at
    ``look_steps``, within the window or not, they are asked for anew with ``steer``. ``standing``
    ones act within attention where no others do. ``first`` is
    the number of the first picture, where others were drawn before it, ``start`` that of the first
    step.
    """

    batch: int
    guided: bool
    second: Branch = "empty"
    rule: Rule | None = None
    window: tuple[float, float] = (0, inf)
    alone: bool = False
    empty: Arguments | None = None
    negatives: Negatives | None = None
    attention: NagSpec | None = None
    standing: Negatives | None = None
    look_steps: tuple[int, ...] = ()
    steer: Steer | None = None
    rescales: bool = False
    first: int = 0
    start: int = 0


class Window(ModelHook):  # type: ignore[misc, unused-ignore]
    """The hook; ``evaluations`` counts the denoiser's rows so far, for each picture of a batch."""

    def __init__(
        self, calls: Calls, schedule: GuidanceSchedule, on_step: Callable[[int], None] | None
    ) -> None:
        super().__init__()
        self.calls, self.schedule, self.on_step = calls, schedule, on_step
        self.step = schedule.start
        self.evaluations = torch.zeros(schedule.batch, dtype=torch.long)
        self._pending: Tensor | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Answer a call of the denoiser's ``forward`` by the schedule, in the call's own form.

        The output has the rows that the pipeline expects, ``(B, ...)`` or ``(2 B, ...)``: the
        prompt's, and a second branch from which the pipeline makes the rule's prediction.
        """
        arguments = self.calls.bind(self.fn_ref.original_forward, args, kwargs)
        as_record = arguments.pop("return_dict", True)
        if not self.schedule.guided:
            output = self._positive(module, arguments)
            self._advance()
        elif self.calls.order == "separate":
            output = self._one_of_two(module, arguments)
        else:
            output = self._both(module, arguments)
            self._advance()
        listed = isinstance(arguments[self.calls.state[0]], list)
        sample = list(output.unbind()) if listed else output
        return Transformer2DModelOutput(sample=sample) if as_record else (sample,)

    def _one_of_two(self, module: nn.Module, arguments: Arguments) -> Tensor:
        """A call for each branch, the positive one first."""
        if self._pending is None:
            self._pending = self._positive(module, arguments)
            return self._pending
        positive, branch = self._pending, self._branch()
        computed = positive
        if branch is not None:
            computed = self._evaluate(self._condition(arguments, branch), (branch,))
        output = self._combined(arguments, positive, branch, computed)
        self._pending = None
        self._advance()
        return output

    def _both(self, module: nn.Module, arguments: Arguments) -> Tensor:
        """One call that holds both branches; what is skipped is left out of it."""
        positive, second = self.calls.split(arguments, self.schedule.batch)
        branch = self._branch()
        if branch is None:
            v_pos = computed = self._positive(module, positive)
        elif self._attended is not None:
            v_pos = self._positive(module, positive)
            computed = self._evaluate(self._condition(second, branch), (branch,))
        else:
            both, condition = arguments, self._condition(second, branch)
            if condition is not second:
                both = self.calls.join(*self.calls.ordered(positive, condition))
            halves = self._evaluate(both, self.calls.ordered("positive", branch)).chunk(2)
            v_pos, computed = self.calls.ordered(*halves)
        output = self._combined(positive, v_pos, branch, computed)
        return torch.cat(self.calls.ordered(v_pos, output))

    @property
    def _rule(self) -> Rule | None:
        """The rule, within its window."""
        start, stop = self.schedule.window
        return self.schedule.rule if start <= self.step < stop else None

    @property
    def _acting(self) -> bool:
        """Whether any negative acts in this step."""
        negatives = self.schedule.negatives
        return self._rule is not None and (negatives is None or bool(negatives.rows))

    @property
    def _looks(self) -> bool:
        """Whether the pictures are looked at before this step."""
        return self.schedule.steer is not None and self.step in self.schedule.look_steps

    def _branch(self) -> Branch | None:
        """The branch to compute with the positive one; None: none."""
        if self._rule is not None:
            return self._rule.first(self._acting, self._looks)
        return None if self.schedule.alone else "empty"

    def _condition(self, second: Arguments, branch: Branch) -> Arguments:
        """The arguments of a branch, from those that the pipeline gives its second one."""
        if branch == self.schedule.second:
            return second
        if branch == "empty":
            return second if self.schedule.empty is None else second | self.schedule.empty
        assert self.schedule.negatives is not None
        return second | self.schedule.negatives.condition

    @property
    def _attended(self) -> Negatives | None:
        """The negatives that act within attention in this step, if any do."""
        acts = self._acting and self._rule is not None and self._rule.attends
        return self.schedule.negatives if acts else self.schedule.standing

    def _positive(self, module: nn.Module, arguments: Arguments) -> Tensor:
        schedule, attended = self.schedule, self._attended
        if attended is None:
            return self._evaluate(arguments, ("positive",))
        assert schedule.rule is not None
        assert schedule.attention is not None
        negative = arguments | attended.condition
        latents = arguments[self.calls.state[0]]
        with schedule.rule.attached(module, schedule.attention, latents):
            both = self._evaluate(self.calls.join(arguments, negative), ("positive", "negative"))
        return both[: self.schedule.batch]

    def _combined(
        self, arguments: Arguments, positive: Tensor, branch: Branch | None, computed: Tensor
    ) -> Tensor:
        """The second branch that makes the pipeline's guidance equal to the rule.

        ``arguments`` are those of either branch, ``computed`` is the prediction of ``branch``.
        """
        if self._looks:
            self._look(arguments, positive, computed)
        rule = self._rule
        if rule is None or branch is None:
            return computed
        negatives = self.schedule.negatives
        if negatives is None:
            return rule.second({"positive": positive, branch: computed}, self._acting)
        if not (rule.beside and negatives.rows):
            predictions = {"positive": positive, branch: computed}
            return rule.second(predictions, self._acting).to(computed.dtype)
        rows, second = negatives.rows, computed.clone()
        beside = self.calls.rows(arguments, rows, self.schedule.batch) | negatives.condition
        predictions = {
            "positive": positive[rows],
            branch: computed[rows],
            "negative": self._evaluate(beside, ("negative",), rows),
        }
        second[rows] = rule.second(predictions, acting=True).to(second.dtype)
        return second

    def _look(self, arguments: Arguments, positive: Tensor, empty: Tensor) -> None:
        """Ask for the negatives anew, with the guided prediction of this step."""
        assert self.schedule.steer is not None
        assert self.schedule.rule is not None
        noisy = _stacked(arguments[self.calls.state[0]])
        guided = paper_rule(positive, empty, self.schedule.rule.scale)
        guided = rescaled(guided, positive) if self.schedule.rescales else guided
        self.schedule.negatives = self.schedule.steer(self.step, noisy, guided)

    def _evaluate(
        self, arguments: Arguments, branches: Sequence[Branch], rows: list[int] | None = None
    ) -> Tensor:
        """One call of the denoiser, for all pictures or those at ``rows``, branch by branch."""
        pictures = list(range(self.schedule.batch)) if rows is None else rows
        self.evaluations[pictures] += len(branches)
        numbers = [self.schedule.first + picture for picture in pictures]
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
        """Record the branch's arguments and end the pipeline's call.

        A first call for another branch is answered with its own latents, uncomputed.

        Raises:
            Recorded: the branch was seen; its arguments are in ``arguments``.
        """
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
    denoiser: nn.Module,
    calls: Calls,
    schedule: GuidanceSchedule,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Window]:
    """Follow a schedule for one draw; ``on_step`` is told the number of each step done, from 1."""
    with attached(denoiser, Window(calls, schedule, on_step)) as hook:
        yield hook

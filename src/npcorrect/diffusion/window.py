"""When the negative acts: a hook on the denoiser, so that no pipeline is forked.

A pipeline under guidance asks its denoiser for two branches a step: under the prompt, and under a
second text. The hook evaluates the branches that the rule needs in this step, and hands the
pipeline what the rule makes of them. It follows the scheduler's steps, of which some have several
calls, and counts every evaluation that really happens, and those in which a negative acted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import Tensor, nn

from npcorrect.diffusion.attention import AttentionSpec
from npcorrect.diffusion.calls import Arguments, Calls
from npcorrect.diffusion.current_call import Branch, Evaluation, announce
from npcorrect.diffusion.guidance import moved, paper_rule, rescaled
from npcorrect.diffusion.receipt import Tally
from npcorrect.diffusion.rules import Predictions, Rule


@dataclass(frozen=True)
class Negatives:
    """The negatives that act on a batch now.

    ``rows`` are the places of their pictures in the batch; ``condition`` are the denoiser's
    arguments under them, one row for each of those places.
    """

    rows: list[int]
    condition: Arguments


@dataclass(frozen=True)
class Emerging:
    """What a look is shown before ``step``, the pipeline's ``call`` of its loop; both from 0.

    ``noisy`` and ``guided`` are the latents of the batch and the prediction under plain guidance,
    ``(B, ...)``, as the denoiser sees them. A text that the look puts in a negative's place acts
    from ``acts`` on, within the window.
    """

    step: int
    call: int
    acts: int
    noisy: Tensor
    guided: Tensor


Steer = Callable[[Emerging], Negatives]
"""Returns the negatives from now on."""

Evidence = Callable[[int, Tensor, Tensor, Predictions], Tensor]
"""Called with a call's place, from 0, the noisy latents and the guided prediction of some pictures,
and their predictions; returns what it says of their negatives, as :meth:`Rule.learn` takes it."""


@dataclass
class GuidanceSchedule:
    """What happens in each step of one draw of ``batch`` pictures.

    ``guided`` says whether the pipeline makes a second branch, ``second`` of which text. From
    ``window[0]`` up to before ``window[1]`` the ``rule`` decides it. Outside, the unconditional
    branch guides, as the pipeline makes it or with the arguments in ``empty``; with ``alone`` it is
    not computed, and the prompt's branch stands alone. ``negatives`` are those that act now; at
    ``look_steps``, within the window or not, they are asked for anew with ``steer``. ``standing``
    ones act within attention where no others do. A rule that learns does so by ``evidence``.
    ``first`` is the number of the first picture, where others were drawn before it, ``start`` that
    of the first step. ``steps`` is asked in the first call, and has the step of each call of the
    pipeline's loop.
    """

    batch: int
    guided: bool
    second: Branch = "empty"
    rule: Rule | None = None
    window: tuple[float, float] = (0, inf)
    alone: bool = False
    empty: Arguments | None = None
    negatives: Negatives | None = None
    attention: AttentionSpec | None = None
    standing: Negatives | None = None
    look_steps: tuple[int, ...] = ()
    steer: Steer | None = None
    evidence: Evidence | None = None
    rescales: bool = False
    first: int = 0
    start: int = 0
    steps: Callable[[], Sequence[int]] = tuple


class Window(ModelHook):  # type: ignore[misc, unused-ignore]
    """The hook; ``evaluations`` counts the denoiser's rows so far, for each picture of a batch."""

    def __init__(
        self,
        calls: Calls,
        schedule: GuidanceSchedule,
        on_step: Callable[[int], None] | None,
        tally: Tally,
    ) -> None:
        super().__init__()
        self.calls, self.schedule, self.on_step = calls, schedule, on_step
        self.step = schedule.start
        self.evaluations = torch.zeros(schedule.batch, dtype=torch.long)
        self._tally = tally
        self._steps: Sequence[int] = ()
        self._call = 0
        self._computed: Branch = "empty"
        self._unseen = set(schedule.look_steps) if schedule.steer else set()
        self._pending: Tensor | None = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Answer a call of the denoiser's ``forward`` by the schedule, in the call's own form.

        The output has the rows that the pipeline expects, ``(B, ...)`` or ``(2 B, ...)``: the
        prompt's, and a second branch from which the pipeline makes the rule's prediction.

        Raises:
            ModelError: the scheduler's steps are not known, or a negative has never acted.
        """
        self._steps = self._steps or self.schedule.steps()
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
        output = self._second(arguments, self._pending)
        self._pending = None
        self._advance()
        return output

    def _both(self, module: nn.Module, arguments: Arguments) -> Tensor:
        """One call that holds both branches; what is skipped is left out of it."""
        positive, second = self.calls.split(arguments, self.schedule.batch)
        branch = self._branch()
        if branch is None or self._attended is not None or (self._looks and branch == "negative"):
            v_pos = self._positive(module, positive)
            output = self._second(second, v_pos)
        else:
            both, condition = arguments, self._condition(second, branch)
            if condition is not second:
                both = self.calls.join(*self.calls.ordered(positive, condition))
            halves = self._evaluate(both, self.calls.ordered("positive", branch)).chunk(2)
            v_pos, computed = self.calls.ordered(*halves)
            output = self._combined(positive, v_pos, branch, computed)
        return torch.cat(self.calls.ordered(v_pos, output))

    @property
    def _acting(self) -> bool:
        """Whether any negative may act in this step."""
        start, stop = self.schedule.window
        negatives = self.schedule.negatives
        inside = self.schedule.rule is not None and start <= self.step < stop
        return inside and (negatives is None or bool(negatives.rows))

    @property
    def _looks(self) -> bool:
        """Whether the pictures are still to be looked at before this step."""
        return self.step in self._unseen

    def _branch(self) -> Branch | None:
        """The branch to compute with the positive one, the same in all calls of a step.

        None: none.
        """
        rule, acting = self.schedule.rule, self._acting
        if self.schedule.alone and not acting:
            return None
        if acting and self._call and self._steps[self._call - 1] == self.step:
            return self._computed
        return rule.first(acting) if rule else "empty"

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
        acts = self._acting and self.schedule.rule is not None and self.schedule.rule.attends
        return self.schedule.negatives if acts else self.schedule.standing

    def _positive(self, module: nn.Module, arguments: Arguments) -> Tensor:
        schedule, attended = self.schedule, self._attended
        if attended is None:
            return self._evaluate(arguments, ("positive",))
        assert schedule.rule is not None
        assert schedule.attention is not None
        spec, weight = schedule.attention, schedule.rule.weight
        with spec.within(module, weight, self.calls, arguments, attended.condition) as within:
            rows = self._evaluate(within.arguments, spec.branches)
        if within.changes and self._acting:
            device = within.changes[0].device
            mean = torch.stack([change.to(device) for change in within.changes]).mean(dim=0)
            self._tally.add(self.step, range(schedule.batch), mean)
        return rows[: schedule.batch]

    def _second(self, arguments: Arguments, positive: Tensor) -> Tensor:
        """The pipeline's second branch, where the prompt's prediction is there already."""
        branch = self._branch()
        if self._looks and branch == "negative":
            # Renewed before it is computed, the negative acts in this very step.
            self._look(arguments, {"positive": positive}, self.step)
            branch = self._branch()
        if branch is None:
            return positive
        computed = self._evaluate(self._condition(arguments, branch), (branch,))
        return self._combined(arguments, positive, branch, computed)

    def _combined(
        self, arguments: Arguments, positive: Tensor, branch: Branch, computed: Tensor
    ) -> Tensor:
        """The second branch that makes the pipeline's guidance equal to the rule.

        ``arguments`` are those of either branch, ``computed`` is the prediction of ``branch``.
        """
        rule, negatives = self.schedule.rule, self.schedule.negatives
        if rule is None:
            return computed
        predictions: dict[Branch, Tensor] = {"positive": positive, branch: computed}
        self._computed = branch
        if self._looks:
            self._look(arguments, predictions, self.step if rule.beside else self.step + 1)
            negatives = self.schedule.negatives
        if not self._acting:
            return rule.second(predictions, acting=False)
        rows = list(range(self.schedule.batch)) if negatives is None else negatives.rows
        if rule.beside:
            assert negatives is not None
            beside = self.calls.rows(arguments, rows, self.schedule.batch) | negatives.condition
            predictions = {name: value[rows] for name, value in predictions.items()}
            predictions["negative"] = self._evaluate(beside, ("negative",), rows)
        plain = rule.plain(predictions)
        second = rule.second(predictions, acting=True)
        if second is not plain:
            change = moved(*(self._guided(predictions, branch) for branch in (second, plain)))
            self._tally.add(self.step, rows, change)
        if self.schedule.evidence is not None:
            noisy = stacked(arguments[self.calls.state[0]])[rows]
            guided = self._guided(predictions, second)
            rule.learn(self.schedule.evidence(self._call, noisy, guided, predictions))
        if not rule.beside:
            return second.to(computed.dtype)
        whole = computed.clone()
        whole[rows] = second.to(whole.dtype)
        return whole

    def _guided(self, predictions: Mapping[Branch, Tensor], second: Tensor) -> Tensor:
        """What the pipeline makes of the prompt's prediction and its second branch."""
        assert self.schedule.rule is not None
        positive = predictions["positive"]
        guided = paper_rule(positive, second, self.schedule.rule.scale)
        return rescaled(guided, positive) if self.schedule.rescales else guided

    def _look(self, arguments: Arguments, predictions: Mapping[Branch, Tensor], acts: int) -> None:
        """Ask for the negatives anew, with this step's prediction under plain guidance."""
        schedule = self.schedule
        assert schedule.rule is not None
        assert schedule.steer is not None
        self._unseen.remove(self.step)
        noisy = stacked(arguments[self.calls.state[0]])
        guided = self._guided(predictions, schedule.rule.plain(predictions))
        schedule.negatives = schedule.steer(Emerging(self.step, self._call, acts, noisy, guided))
        self._tally.withdraw(set(range(schedule.batch)) - set(schedule.negatives.rows))

    def _evaluate(
        self, arguments: Arguments, branches: Sequence[Branch], rows: list[int] | None = None
    ) -> Tensor:
        """One call of the denoiser, for all pictures or those at ``rows``, branch by branch."""
        pictures = list(range(self.schedule.batch)) if rows is None else rows
        self.evaluations[pictures] += len(branches)
        numbers = [self.schedule.first + picture for picture in pictures]
        whose = tuple((number, branch) for branch in branches for number in numbers)
        with announce(Evaluation(self.schedule.start + self._call, whose)):
            return stacked(self.fn_ref.original_forward(**arguments, return_dict=True).sample)

    def _advance(self) -> None:
        """Go on with the next call, and where a step is done, say so."""
        before = self.step
        self._call += 1
        done = self._call == len(self._steps)
        self.step = self._steps[-1] + 1 if done else self._steps[self._call]
        if self.step == before:
            return
        start, stop = self.schedule.window
        if self.schedule.rule is not None and start < stop <= self.step:
            self._tally.check()
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
        self.noisy: Any = None
        self._seen = 0

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Record the branch's arguments and end the pipeline's call.

        A first call for another branch is answered with its own latents, uncomputed.

        Raises:
            Recorded: the branch was seen; its arguments are in ``arguments``, the noisy latents in
                ``noisy``.
        """
        arguments = self.calls.bind(self.fn_ref.original_forward, args, kwargs)
        as_record = arguments.pop("return_dict", True)
        if self.second and self.calls.order == "separate" and not self._seen:
            self._seen = 1
            pretended = arguments[self.calls.state[0]]
            return Transformer2DModelOutput(sample=pretended) if as_record else (pretended,)
        if self.second and self.calls.order != "separate":
            _, arguments = self.calls.split(arguments, self.batch)
        self.noisy = arguments[self.calls.state[0]]
        self.arguments = self.calls.condition(arguments)
        raise Recorded


def stacked(value: Any) -> Tensor:
    """Latents that come in a list of rows, or together, as one tensor."""
    rows: Tensor = torch.stack(value) if isinstance(value, list) else value
    return rows


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
    tally: Tally | None = None,
) -> Iterator[Window]:
    """Follow a schedule for one draw; ``on_step`` is told the number of each step done, from 1.

    ``tally`` learns in what the negatives acted; one may go with all draws of the same pictures.
    """
    hook = Window(calls, schedule, on_step, tally or Tally(schedule.batch))
    with attached(denoiser, hook):
        yield hook

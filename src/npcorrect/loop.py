"""The correction loop: draw, verify, and while that fails, redraw with a negative prompt.

It knows protocols only; it prints and writes nothing, and loads no model by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from inspect import GEN_CLOSED, GEN_RUNNING, getgeneratorstate
from threading import Event as Flag
from time import perf_counter

from PIL.Image import Image

from npcorrect.diffusion.base import Cancelled, ImageModel
from npcorrect.files import upright
from npcorrect.model_calls import ModelCalls, accepted
from npcorrect.plan import batches
from npcorrect.provenance import Provenance
from npcorrect.ranking import Ranker
from npcorrect.records import (
    Attempt,
    Caption,
    Checklist,
    Cost,
    Drawing,
    Generation,
    Origin,
    Ranked,
    Request,
    Usage,
    Verdict,
)
from npcorrect.result import Ended, Result
from npcorrect.role_calls import Event as Event
from npcorrect.role_calls import OnEvent as OnEvent
from npcorrect.role_calls import RoleCalls, ignore
from npcorrect.settings import check_kind, read
from npcorrect.vlm.roles import Roles
from npcorrect.vlm.usage import Account

POOL = 3
"""Candidates proposed for each one that may be drawn; the ranking chooses among them."""


def correct(
    request: Request,
    model: ImageModel,
    roles: Roles,
    ranker: Ranker,
    on_event: OnEvent | None = None,
    *,
    checklist: Checklist | None = None,
    original: Image | Generation | None = None,
    begun: Result | None = None,
    made_with: Provenance | None = None,
) -> Correction:
    """Draw a prompt, and redraw it until the verifier accepts a picture.

    The first attempt is the original. Where it is rejected, it carries its caption, and up to
    ``candidates`` attempts follow, best ranked first, until one is accepted. Where the request
    or the model asks for looks, the emerging picture is verified on the way: while it fails, its
    own caption becomes the negative; once it is right, none acts; where the last look finds it
    wrong, it may go back and begin again. Redrawings of a strength below 1 begin with the original.
    Redrawings with seeds of their own try the first candidate each: a new seed with the best
    negative does better than the next negative; or, where the model's plan has it so for what
    failed, none once one was tried (docs/results.md).
    Where it is accepted or unscored nothing follows: without a verdict there is no known fault.
    Candidates are drawn ``batch`` at a time, and a batch that was drawn is verified to its end.
    Negatives that are too long for the model are passed over.
    A redrawn picture that is unscored does not end the loop, unless the budget is used up. The
    original's cost includes the checklist and the caption, the first redrawn one's includes the
    proposing.

    Drawing happens on the caller's thread. Where the roles allow it and there are no looks,
    pictures are verified in others, while the next batch is drawn. What was begun in vain is
    dropped: it is no attempt and in no attempt's cost, so that neither depends on the timing.
    Where the roles' models and the image model take turns on one card, all redrawings are drawn
    before any is verified, and all of them are attempts.

    ``checklist`` saves asking for it again where the caller has it already. ``original`` is a
    picture to correct in place of a first drawing. ``begun`` is an interrupted correction of
    the same request, with attempts up to the end of a batch, all of them scored: they come first,
    and nothing of them is asked again. ``made_with`` is kept in the result. The request is refused
    at once where it cannot work, all else happens as attempts are asked for. Role failures end up
    in the attempts; a proposer's failure is announced as an event, and rules propose instead.

    Raises:
        InputError: the request cannot work; see :func:`npcorrect.plan.plan`.
    """
    tell = on_event or ignore
    return Correction(request, model, roles, ranker, tell, checklist, original, begun, made_with)


class Correction(Iterator[Attempt]):
    """A correction under way: iterate its attempts; an attempt is final when it is yielded.

    ``result`` may be read at any time, also after a break, and :meth:`stop` called from any thread.
    """

    def __init__(
        self,
        request: Request,
        model: ImageModel,
        roles: Roles,
        ranker: Ranker,
        tell: OnEvent,
        checklist: Checklist | None,
        original: Image | Generation | None,
        begun: Result | None,
        made_with: Provenance | None,
    ) -> None:
        remedy = "a picture of PIL, or a generation of the same model"
        check_kind(original, Image | Generation | None, "original", remedy)
        check_kind(checklist, Checklist | None, "checklist", "a Checklist")
        check_kind(begun, Result | None, "correction that was begun", "its Result")
        check_kind(tell, Callable, "listener", "a function that takes events")
        self._given = original if isinstance(original, Generation) else None
        picture = original.image if isinstance(original, Generation) else original
        if isinstance(original, Image):
            picture = upright(original, "original")
        self.plan = model.plan(request if picture is None else sized(request, picture))
        if picture is not None and self._given is None:
            self._given = Generation(
                image=picture, drawing=self.plan.template, evaluations=0, seconds=0.0
            )
        self._model, self._ranker, self._made_with = model, ranker, made_with
        self._begun = begun.attempts if begun else ()
        self._checklist = begun.checklist if begun and begun.attempts else checklist
        self._calls = RoleCalls(roles, tell, self.plan.request.candidates)
        self._stopped = Flag()
        self._attempts: list[Attempt] = []
        self._ended: Ended | None = None
        self._stream = self._run()

    def __next__(self) -> Attempt:
        """The next attempt, drawn and verified."""
        return next(self._stream)

    @property
    def checklist(self) -> Checklist:
        """What the prompt asks for; without requirements as long as nobody has said."""
        return self._checklist or Checklist(self.plan.template.prompt, ())

    @property
    def result(self) -> Result:
        """The attempts so far, and which of them to keep."""
        request, attempts = self.plan.request, tuple(self._attempts)
        return Result(request, self.checklist, attempts, self._ended, self._made_with)

    @property
    def ended(self) -> Ended | None:
        """Why no attempt follows; None while one may, or where an error ended it."""
        return self._ended

    @property
    def spent(self) -> bool:
        """Whether a role was refused a question because the budget is used up."""
        return self._calls.spent.is_set()

    def stop(self) -> None:
        """End after the present step or question; what was yielded stays. From any thread."""
        self._stopped.set()

    def close(self) -> None:
        """End now, and let go of what is under way; while an attempt is made, as :meth:`stop`."""
        state = getgeneratorstate(self._stream)
        if state == GEN_RUNNING:  # in another thread, or below this call, in a listener
            self.stop()
            return
        if state != GEN_CLOSED:
            self._ended = "stopped"
        self._stream.close()

    def _run(self) -> Generator[Attempt]:
        try:
            for attempt in self._all():
                self._attempts.append(attempt)
                yield attempt
            self._ended = self._reason()
        except Cancelled:
            spent = self._calls.spent.is_set() and not self._stopped.is_set()
            self._ended = "budget" if spent else "stopped"
        except GeneratorExit:
            self._ended = "stopped"
            raise

    def _reason(self) -> Ended:
        verdicts = [attempt.verdict.accepted for attempt in self._attempts]
        if True in verdicts:
            return "accepted"
        if self._stopped.is_set():
            return "stopped"
        if self._calls.spent.is_set():
            return "budget"
        return "unscored" if verdicts[0] is None else "exhausted"

    @property
    def _model_calls(self) -> ModelCalls:
        """The image model, by what is known of the prompt now."""
        before = self._attempts[0].verdict if self._attempts else None
        return ModelCalls(self.plan, self._model, self._calls, self.checklist, self._over, before)

    def _over(self) -> bool:
        """Whether nothing more is to be drawn or asked."""
        return self._stopped.is_set() or self._calls.spent.is_set()

    def _all(self) -> Generator[Attempt]:
        if self._begun:
            yield from self._continued(self._begun)
            return
        if self._over():
            raise Cancelled
        self._check_origin()
        start, account, error = perf_counter(), Account(), ""
        if self._checklist is None:
            self._checklist, error = self._calls.checklist(self.plan.template.prompt, account)
        generation = account.charged(self._original)
        verdict = self._verify(0, generation.image, account, error)
        caption = None
        hopeless = verdict.accepted is not False or not self.plan.request.candidates
        if not (hopeless or self._over()):
            caption = self._calls.caption(0, generation.image, account)
        cost = _cost(generation, account, perf_counter() - start)
        if generation is self._given:  # others have paid for it
            cost = replace(cost, images=0, evaluations=0)
        yield Attempt(index=0, generation=generation, verdict=verdict, caption=caption, cost=cost)
        if not (hopeless or self._over()):
            yield from self._redraw(generation, verdict, caption or Caption(""))

    def _check_origin(self) -> None:
        """Refuse what redrawings cannot begin with, before it is known whether there will be any.

        Raises:
            ModelError: the given picture's latents are another model's.
        """
        given, template = self._given, self.plan.template
        begins = self.plan.request.candidates and template.restart_step
        if begins and given and given.origin and begins_alike(given.drawing, template):
            given.origin.check(self._model.name)

    def _continued(self, begun: Sequence[Attempt]) -> Generator[Attempt]:
        """The attempts that were made before, then those that are missing.

        Redrawings may begin with the latents of the original, which no file keeps: it is drawn
        again for them.
        """
        yield from begun
        first = begun[0]
        over = self._over() or accepted(begun) or len(begun) > self.plan.request.candidates
        if over or first.verdict.accepted is not False:
            return
        drawn = self._original() if self.plan.template.restart_step else first.generation
        yield from self._redraw(drawn, first.verdict, first.caption or Caption(""), len(begun) - 1)

    def _original(self) -> Generation:
        """The first picture, drawn or given."""
        if self._given is not None:
            return self._given
        calls = self._model_calls
        (generation,) = calls.draw([calls.acting(None)], 0, cancelled=self._stopped.is_set)
        return generation

    def _origin(self, original: Generation) -> Origin | None:
        """What redrawings begin with, if they do: the original's own latents, or its pixels'."""
        template = self.plan.template
        if not template.restart_step:
            return None
        if original.origin is not None and begins_alike(original.drawing, template):
            return original.origin
        origin = self._model.origin(original.image, template)
        if origin is None:
            self._calls.say(
                "draw", 1, "cannot begin with this picture; redrawings begin with noise"
            )
        return origin

    def _redraw(
        self, original: Generation, verdict: Verdict, caption: Caption, done: int = 0
    ) -> Generator[Attempt]:
        """The attempts after the original, which has this verdict and caption.

        The first ``done`` of them are made already.
        """
        start, account = perf_counter(), Account()
        limit = POOL * self.plan.request.candidates
        candidates = self._calls.propose(self.checklist, verdict, caption, limit, account)
        if self._over():
            return
        calls = self._model_calls
        candidates = tuple(c for c in candidates if calls.takes(c.negative_prompt))
        self._calls.say("rank", 1, total=len(candidates))
        ranking = account.charged(lambda: self._ranker.rank(self.checklist, candidates))
        left = self._batches(self._in_order(ranking, verdict), done, calls)
        proposing = perf_counter() - start
        for drawn, verified in calls.verified_batches(left, self._origin(original)):
            share = drawn.seconds / len(drawn.ranking)
            rows = zip(drawn.ranking, drawn.generations, drawn.looks, verified, strict=True)
            for index, (ranked, generation, looks, answer) in enumerate(rows, drawn.first):
                asked = answer.account.joined(looks, account)
                cost = _cost(generation, asked, proposing + share + answer.seconds)
                account, proposing = Account(), 0.0
                yield Attempt(
                    index=index,
                    generation=generation,
                    verdict=answer.verdict,
                    ranked=ranked,
                    cost=cost,
                )
            if self._stopped.is_set():  # also where more is drawn, for which models take turns
                return

    def _verify(self, attempt: int, image: Image, account: Account, unscored: str = "") -> Verdict:
        """The verdict on a picture; none where ``unscored`` says why there can be none."""
        if unscored:
            return Verdict((), unscored)
        return self._calls.verify(attempt, image, self.checklist, account)

    def _in_order(self, ranking: Sequence[Ranked], verdict: Verdict) -> Sequence[Ranked | None]:
        """What the redrawings try, one each: the best first, and under new seeds the best again.

        None stands for no negative: where new seeds do better, once the best was tried.
        """
        most, fresh = self.plan.request.candidates, self.plan.fresh_from
        if not (fresh and ranking):
            return ranking[:most]
        tried = ranking[: min(max(fresh - 1, 1), most)]
        failed = {check.requirement.kind for check in verdict.failed}
        again = None if failed <= self.plan.seeds_suffice else ranking[0]
        return (*tried, *(again,) * (most - len(tried)))

    def _batches(
        self, order: Sequence[Ranked | None], done: int, calls: ModelCalls
    ) -> list[tuple[int, Sequence[Ranked | None]]]:
        """What follows the first ``done`` redrawings, a batch each, with its first attempt."""
        places = batches([calls.acting(one) for one in order], self.plan.request.batch)
        left = [range(max(one.start, done), one.stop) for one in places]
        return [(one.start + 1, order[one.start : one.stop]) for one in left if one]


def begins_alike(drawn: Drawing, template: Drawing) -> bool:
    """Whether redrawings by a template can begin with the latents that a drawing came to."""
    names = ("num_inference_steps", "height", "width")
    return all(getattr(drawn, name) == getattr(template, name) for name in names)


def sized(request: Request, original: Image) -> Request:
    """The request at the size of a picture that exists, where it asks for none.

    Raises:
        SettingsError: it is no picture, or a side is too short or too long.
    """
    check_kind(original, Image, "original", "a picture of PIL")
    if any(side is not None for side in (request.size, request.height, request.width)):
        return request
    sides = {"height": original.height, "width": original.width}
    return read(Request, sides, "The original", base=request)


def _cost(generation: Generation, account: Account, seconds: float) -> Cost:
    return Cost(1, generation.evaluations, seconds, account.usage or Usage())

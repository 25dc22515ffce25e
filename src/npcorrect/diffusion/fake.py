"""An image model for tests of whatever draws: instant, exact, and it remembers what it was asked.

It behaves as real models do: it plans with :func:`npcorrect.plan.plan`, looks before the steps of
the drawing, goes back where the last look says so, ends where its watch is cancelled, and refuses
another model's origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from npcorrect.diffusion.base import (
    UNWATCHED,
    Glance,
    Reading,
    TokenStates,
    Watch,
    drawn_alone,
    shared,
)
from npcorrect.diffusion.looks import Looks
from npcorrect.diffusion.rules import RULES, Rule
from npcorrect.errors import ModelError, PromptError
from npcorrect.plan import Defaults, Plan, plan
from npcorrect.records import Drawing, Generation, Origin, Receipt, Request

FAKE_DEFAULTS = Defaults(
    num_inference_steps=4,
    true_cfg_scale=1.8,
    negative_scale=1.0,
    rule="paper",
    window=1.0,
    looks=0,
    fresh_from=0,
    sizes=(16,),
    max_sequence_length=64,
    multiple=8,
)


@dataclass(frozen=True)
class FakeFamily:
    """A family whose rows say whatever a test needs."""

    title: str = "the fake model"
    rules: Mapping[str, type[Rule]] = field(default_factory=lambda: RULES)
    distilled: str = ""
    restarts: bool = True
    windows: bool = True
    least_scale: float = 1.0
    guides_always: bool = False

    def check_negative(self, negative: str) -> None:
        """Accept every negative, so that nothing is raised."""

    def check_prompt(self, prompt: str) -> None:
        """Accept every prompt, so that nothing is raised."""


Paint = Callable[[Drawing], Image.Image]
"""The picture of a drawing."""


def black(drawing: Drawing) -> Image.Image:
    """A black RGB picture of the drawing's width and height, in pixels."""
    return Image.new("RGB", (drawing.width, drawing.height))


class FakeImageModel:
    """An :class:`~npcorrect.diffusion.base.ImageModel` and a text encoder.

    ``drawings`` has the finished batches in order, ``glances`` what looks said, in order, and
    ``begun`` the negative of every picture that was begun. ``on_draw`` is called with each drawing
    before anything of it is drawn. Texts of more than ``longest`` characters are refused.
    """

    def __init__(
        self,
        defaults: Defaults = FAKE_DEFAULTS,
        *,
        name: str = "fake",
        family: FakeFamily = FakeFamily(),
        paint: Paint = black,
        on_draw: Callable[[Drawing], object] = lambda drawing: None,
        longest: int = 1000,
    ) -> None:
        self.name, self.defaults, self.family = name, defaults, family
        self._paint, self._on_draw, self._longest = paint, on_draw, longest
        self.drawings: list[tuple[Drawing, ...]] = []
        self.glances: list[Sequence[Glance]] = []
        self.begun: list[str | None] = []

    @property
    def drawn(self) -> list[tuple[int, str | None]]:
        """Seed and negative of every picture that was finished, in order."""
        return [(d.seed, d.negative_prompt) for batch in self.drawings for d in batch]

    def plan(self, request: Request) -> Plan:
        """The plan of a request with this model's defaults; see :func:`npcorrect.plan.plan`.

        Raises:
            InputError: the model cannot do what was asked, or the prompt is too long for it.
        """
        made = plan(request, self.family, self.defaults, _levels)
        for text in (request.prompt, request.negative_prompt):
            self.check_text(text or "")
        return made

    def check_text(self, text: str) -> None:
        """Refuses long texts.

        Raises:
            PromptError: it has more than ``longest`` characters.
        """
        if len(text) > self._longest:
            raise PromptError(f"The text has {len(text)} characters; give {self._longest}.")

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """Draw at once, one picture for each drawing, after as many steps as real models take.

        Raises:
            Cancelled: the watch has cancelled the drawing.
            ModelError: an origin is another model's.
            ValueError: the drawings differ in more than a batch allows.
        """
        if not drawings:
            return []
        shared(drawings)
        for drawing in drawings:
            if drawing.origin is not None and drawing.origin.model != self.name:
                raise ModelError(f"The origin is of {drawing.origin.model!r}, not {self.name!r}.")
            self.begun.append(drawing.negative_prompt)
            self._on_draw(drawing)
        size = 1 if drawn_alone(drawings[0]) else len(drawings)
        draws = [
            _Draw(drawings[place : place + size], watch, place, self._paint)
            for place in range(0, len(drawings), size)
        ]
        for draw in draws:
            draw.run()
            self.glances += draw.glances
        self.drawings.append(tuple(drawings))
        return [
            replace(generation, origin=self.origin(generation.image, generation.drawing))
            for draw in draws
            for generation in draw.generations()
        ]

    def origin(self, image: Image.Image, drawing: Drawing) -> Origin | None:
        """The picture's pixels; None where the family cannot begin with a picture."""
        if not self.family.restarts:
            return None
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32)[None]
        sigmas = np.array([*_levels(drawing), 0], dtype=np.float32)
        return Origin(self.name, pixels, sigmas)

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """Token states ``(T, 2)`` of each text: one row a character, its code point and 1."""
        return [
            TokenStates(
                np.array([[ord(c), 1.0] for c in text or " "], dtype=np.float32),
                np.zeros(max(len(text), 1), dtype=bool),
            )
            for text in texts
        ]


def _levels(drawing: Drawing) -> list[float]:
    """The noise level with which each step begins, evenly from 1."""
    steps = drawing.num_inference_steps
    return [1 - step / steps for step in range(steps)]


class _Draw:
    """Pictures drawn together, the first of them at ``place``, as looks change their negatives."""

    def __init__(self, drawings: Sequence[Drawing], watch: Watch, place: int, paint: Paint) -> None:
        self.drawings, self.watch, self.paint = drawings, watch, paint
        self.glances: list[Sequence[Glance]] = []
        self.looks = Looks(drawings, self._noted if watch.look else None, place)
        self.start = self.first.restart_step if self.first.origin else 0
        self.rule = RULES[self.first.rule]
        self.evaluations = [0] * len(drawings)
        self.acted: list[list[int]] = [[] for _ in drawings]
        start, stop = self.first.window
        self._asked = self.first.negative_prompt is not None and start < stop
        self._begin()

    @property
    def first(self) -> Drawing:
        """The first drawing, for what all of them have in common."""
        return self.drawings[0]

    def _begin(self) -> None:
        """Forget what the rule keeps from step to step: nothing is known of the negative."""
        self._known = self._plain_before = False

    def run(self) -> None:
        """Take the steps, each with the evaluations that the rule takes on FLUX.1 [dev].

        Raises:
            ModelError: a negative acted in no step, and no look has withdrawn it.
        """
        self.watch.begin(self.looks.first)
        step, total = self.start, self.first.num_inference_steps
        while step < total:
            if self._goes_back(step):
                self._begin()
                step = self.first.restart_step
                continue
            step += 1
            self.watch.step(step, total)
        if self._asked and any(
            not steps and all(negative is not None for negative, _ in answers)
            for steps, answers in zip(self.acted, self.looks.answers, strict=True)
        ):
            raise ModelError("The negative prompt acted in no step of a picture.")

    def _goes_back(self, step: int) -> bool:
        """Take a step and its look, if there is one; returns whether the pictures go back."""
        looks = self._asked and self.looks.wanted and step in self.first.look_steps
        turn = self.rule.delay > 0 and self._plain_before and self._acting(step)
        before = 1 if looks and turn else self._branches(step)
        self._count(before)
        if looks and self._look(step, step if turn else step + self.rule.delay):
            return True
        self._count(self._branches(step) - before)
        acting = self._acting(step)
        self._known = acting and (turn or self._known or not self.rule.delay)
        self._plain_before = not (turn and acting)
        if self._known:
            self._note(step)
        return False

    def _acting(self, step: int) -> bool:
        """Whether any negative may act in a step."""
        start, stop = self.first.window
        return (
            self._asked
            and start <= step < stop
            and any(n is not None for n in self.looks.negatives)
        )

    def _branches(self, step: int) -> int:
        """How many branches a step computes, but for one that a negative has beside them."""
        standing = self.first.standing_negative is not None
        second = self.rule.renewable or self.rule.beside or standing or self._acting(step)
        return 2 if second and self.first.rule != "vsf" else 1

    def _count(self, branches: int) -> None:
        self.evaluations = [count + branches for count in self.evaluations]

    def _note(self, step: int) -> None:
        """Note in which pictures a negative acts, and what it costs where it acts beside."""
        for row, negative in enumerate(self.looks.negatives):
            if negative is not None:
                self.acted[row].append(step)
                self.evaluations[row] += self.rule.beside

    def _look(self, step: int, acts: int) -> bool:
        return self.looks.take(step, [self.paint(one) for one in self.drawings], acts)

    def _receipt(self, row: int) -> Receipt | None:
        """In what a negative acted; how far it moved predictions, which there are none, is open."""
        start, stop = self.first.window
        if self.first.negative_prompt is None or start >= stop:
            return None
        steps = self.acted[row]
        return Receipt(len(steps), min(steps), max(steps) + 1) if steps else Receipt()

    def _noted(
        self, place: int, images: Sequence[Image.Image], negatives: Sequence[str | None]
    ) -> Sequence[Glance]:
        assert self.watch.look is not None
        self.glances.append(self.watch.look(place, images, list(negatives)))
        return self.glances[-1]

    def generations(self) -> list[Generation]:
        """The pictures of this call, one for each drawing in order, with no origins yet."""
        return [
            Generation(
                image=self.paint(drawing),
                drawing=drawing,
                evaluations=self.evaluations[row],
                seconds=0.0,
                steering=tuple(self.looks.changes[row]),
                start_step=self.first.restart_step if self.looks.rewinds else self.start,
                rewinds=self.looks.rewinds,
                looks=self.looks.count,
                answers=tuple(self.looks.answers[row]),
                receipt=self._receipt(row),
            )
            for row, drawing in enumerate(self.drawings)
        ]


def looking(defaults: Defaults = FAKE_DEFAULTS, looks: int = 1, rewinds: int = 0) -> Defaults:
    """Defaults by which redrawings are looked at, with steps enough for so many looks."""
    return replace(
        defaults,
        rule="extra",
        num_inference_steps=max(4, 2 * looks),
        looks=looks,
        rewinds=rewinds,
    )

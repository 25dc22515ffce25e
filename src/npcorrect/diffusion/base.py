"""What the loop asks of an image model and of its text encoder. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from npcorrect.plan import Plan
from npcorrect.records import Drawing, Generation, Origin, Request


@dataclass(frozen=True)
class Glance:
    """What a look at an emerging picture says: the negative to act from now on, if any.

    ``wrong`` pictures may be taken back; where nobody could tell, a picture is not wrong.
    """

    negative: str | None
    wrong: bool = False


Look = Callable[[int, Sequence[Image], Sequence[str | None]], Sequence[Glance]]
"""Called with the place of the first of some emerging pictures among the drawings, the pictures,
and the negatives acting on them."""


class Cancelled(Exception):  # noqa: N818 (no error: nobody waits for the picture any more)
    """Ends a drawing that its watch has cancelled."""


def _ignore(*_: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Watch:
    """What a model tells whoever waits for a drawing, and what it asks.

    ``on_step`` is told each denoising step done, from 1, and the number of steps; ``on_begin``, of
    pictures that are not drawn together, the place of the first that begins. ``look`` is shown
    pictures that have a negative before each of their ``look_steps``, as the model then expects
    them to turn out. Once ``cancelled`` says so, the drawing ends with
    :class:`Cancelled` before its next step.
    """

    on_step: Callable[[int, int], None] = _ignore
    look: Look | None = None
    cancelled: Callable[[], bool] = lambda: False
    on_begin: Callable[[int], None] = _ignore

    def check(self) -> None:
        """End the drawing where it is cancelled.

        Raises:
            Cancelled: nobody waits for the drawing any more.
        """
        if self.cancelled():
            raise Cancelled

    def begin(self, place: int) -> None:
        """Tell which of the pictures begin, and end the drawing where it is cancelled.

        Raises:
            Cancelled: nobody waits for the drawing any more.
        """
        self.check()
        self.on_begin(place)

    def step(self, step: int, total: int) -> None:
        """Tell a step, and end the drawing where it is cancelled.

        Raises:
            Cancelled: nobody waits for the drawing any more.
        """
        self.on_step(step, total)
        self.check()


@dataclass(frozen=True)
class TokenStates:
    """Last hidden states of one text, ``(T, D)``, without padding; ``special`` marks end tokens."""

    states: NDArray[np.float32]
    special: NDArray[np.bool_]


UNWATCHED = Watch()
"""Nobody waits, looks or cancels."""


def shared(drawings: Sequence[Drawing]) -> tuple[Drawing, list[str] | None]:
    """What drawings of one call have in common, as the first of them, and their negatives, or None.

    A negative is here what its branch reads.

    Raises:
        ValueError: they differ in more than :meth:`ImageModel.draw` allows.
    """
    alike = {replace(d, prompt="", seed=0, negative_prompt=None, origin=None) for d in drawings}
    negatives = [text for d in drawings if (text := d.branch_text) is not None]
    begun = sum(drawing.origin is not None for drawing in drawings)
    every = (0, len(drawings))
    if len(alike) != 1 or len(negatives) not in every or begun not in every:
        raise ValueError(
            "drawings of one batch differ in more than prompt, seed, negative and origin"
        )
    return drawings[0], negatives if negatives else None


def drawn_alone(drawing: Drawing) -> bool:
    """Whether a picture's steps depend on what its own looks see, so that none is drawn with it."""
    return drawing.rule == "turns" or drawing.max_rewinds > 0


class ImageModel(Protocol):
    """Draws and refines pictures as planned, on the caller's thread."""

    @property
    def name(self) -> str:
        """The name by which the user chose the model, as messages and results have it."""
        ...

    def plan(self, request: Request) -> Plan:
        """The request with every choice made; see :func:`npcorrect.plan.plan`.

        Raises:
            InputError: the model cannot do what was asked, or a negative could have no effect.
        """
        ...

    def check_text(self, text: str) -> None:
        """Raises PromptError where a prompt or a negative is longer than the model reads."""
        ...

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """Draw pictures together, one for each drawing, in order.

        The drawings of a call differ in prompt, seed, negative prompt and origin alone, and either
        all of them have a negative prompt, or an origin, or none has. The same drawing gives the
        same picture.

        Raises:
            Cancelled: the watch has cancelled the drawing.
            ModelError: an origin is another model's, or memory runs out.
        """
        ...

    def origin(self, image: Image, drawing: Drawing) -> Origin | None:
        """What drawings like this one may begin with in a picture that exists.

        None where the model cannot begin with a picture.
        """
        ...


Reading = Literal["drawn", "masked", "alone"]
"""How an encoder reads a text: as the model does when it draws; padded to the model's length with
the padding hidden from it; or the text's tokens alone, without special tokens and padding."""


class TextEncoder(Protocol):
    """The image model's own token-level text encoder."""

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """Token states of each text, in one call of the encoder."""
        ...

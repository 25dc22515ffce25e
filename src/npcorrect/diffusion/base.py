"""What the loop asks of an image model and of its text encoder. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from npcorrect.records import Generation, Request, Rule

OnStep = Callable[[int, int], None]
"""Called after each denoising step with its number, from 1, and the number of steps."""


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


@dataclass(frozen=True)
class Drawing:
    """One draw with every choice made; what a :class:`Request` becomes on a model."""

    prompt: str
    seed: int
    negative_prompt: str | None
    num_inference_steps: int
    true_cfg_scale: float
    negative_scale: float
    rule: Rule
    window_steps: int
    look_steps: tuple[int, ...]
    height: int
    width: int
    start_step: int = 0
    rewinds: int = 0


@dataclass(frozen=True)
class TokenStates:
    """Last hidden states of one text, ``(T, D)``, without padding; ``special`` marks end tokens."""

    states: NDArray[np.float32]
    special: NDArray[np.bool_]


class ImageModel(Protocol):
    """Draws pictures."""

    @property
    def name(self) -> str:
        """What the user calls the model."""
        ...

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        """Fill in the model's defaults, for the attempt with this number.

        Raises:
            InputError: the model cannot do what was asked, or a negative could have no effect.
        """
        ...

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        """Draw pictures together, one for each drawing, in order.

        With ``look``, pictures that have a negative are shown to it before each of their
        ``look_steps``, as the model then expects them to turn out; one that the last look finds
        wrong goes back to its ``start_step``, up to ``rewinds`` times. With ``origin``, a picture
        of this model and this schedule, pictures begin at their ``start_step`` from that picture
        noised; without, from noise alone.

        The drawings of a call differ in prompt, seed and negative prompt alone, and either all of
        them have a negative prompt or none has. The same drawing gives the same picture.
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

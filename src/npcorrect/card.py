"""One accelerator for two models: whichever is not at work leaves it.

Where there is room for the image model or for a model that plays roles, but not for both, they take
turns. Drawings and questions come in phases, so that the card changes hands as rarely as possible.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from PIL.Image import Image

from npcorrect.diffusion.base import UNWATCHED, Glance, Look, Reading, TokenStates, Watch
from npcorrect.diffusion.wrapper import Wrapper
from npcorrect.records import Drawing, Generation, Origin, Usage
from npcorrect.vlm.base import VLM, Question, Reply
from npcorrect.vlm.usage import charge
from npcorrect.vlm.wrapper import VLMWrapper

_log = logging.getLogger(__name__)


class Resident(Protocol):
    """A model that works on the card, and can leave it."""

    @property
    def name(self) -> str:
        """The model as the log of moves calls it."""
        ...

    def enter(self) -> None:
        """Come to the card; every other resident has left it."""
        ...

    def leave(self) -> None:
        """Give the card's memory back; what is kept elsewhere is not lost."""
        ...


class Card:
    """An accelerator that one resident has at a time."""

    def __init__(self) -> None:
        self._holder: Resident | None = None

    def give(self, resident: Resident) -> None:
        """Let a resident work; who had the card leaves it first, which is charged as a swap."""
        if resident is self._holder:
            return
        if self._holder is not None:
            _log.info("%s leaves the card to %s.", self._holder.name, resident.name)
            self._holder.leave()
            charge(Usage(swaps=1))
        self._holder = resident
        resident.enter()


class CardVLM(VLMWrapper):
    """A VLM that is asked once it has the card."""

    def __init__(self, vlm: VLM, resident: Resident, card: Card) -> None:
        super().__init__(vlm)
        self._resident, self._card = resident, card

    def connect(self) -> None:
        """Connect the model, on the card; see :meth:`npcorrect.vlm.base.VLM.connect`.

        Raises:
            InputError: nothing can be asked.
            BudgetError: the budget does not allow finding out.
        """
        self._card.give(self._resident)
        super().connect()

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer all questions, in order; see :meth:`npcorrect.vlm.base.VLM.ask`.

        Raises:
            InputError: nothing was ever answered, and nothing can be.
        """
        if questions:
            self._card.give(self._resident)
        return super().ask(questions)


class CardModel(Wrapper):
    """An image model that draws and reads texts once it has the card."""

    def __init__(self, model: Any, card: Card) -> None:
        super().__init__(model)
        self._resident: Resident = model
        self._card = card

    @property
    def pipeline(self) -> Any:
        """The model's own pipeline, where it has one."""
        return getattr(self.model, "pipeline", None)

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """As the model draws them; it has the card again after each look."""
        self._card.give(self._resident)
        look = self._returning(watch.look) if watch.look else None
        return super().draw(drawings, replace(watch, look=look))

    def origin(self, image: Image, drawing: Drawing) -> Origin | None:
        """What the model begins with a picture as; it is on the card for that."""
        self._card.give(self._resident)
        return super().origin(image, drawing)

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """As the model's text encoder reads them."""
        self._card.give(self._resident)
        return super().encode(texts, reading)

    def _returning(self, look: Look) -> Look:
        def looked(
            first: int, images: Sequence[Image], negatives: Sequence[str | None]
        ) -> Sequence[Glance]:
            glances = look(first, images, negatives)
            self._card.give(self._resident)
            return glances

        return looked

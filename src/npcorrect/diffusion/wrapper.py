"""An image model around another one."""

from __future__ import annotations

from collections.abc import Sequence

from PIL.Image import Image

from npcorrect.diffusion.base import UNWATCHED, ImageModel, Reading, TextEncoder, TokenStates, Watch
from npcorrect.plan import Plan
from npcorrect.records import Drawing, Generation, Origin, Request


class Wrapper:
    """Does what the other model does; a subclass changes one thing."""

    def __init__(self, model: ImageModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The other model's name, so that records do not tell the two apart."""
        return self.model.name

    def plan(self, request: Request) -> Plan:
        """What the other model resolves a request to, and what it refuses."""
        return self.model.plan(request)

    def check_text(self, text: str) -> None:
        """Refuses what the other model's text encoders cannot read."""
        self.model.check_text(text)

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        """The other model's pictures of the drawings, in their order."""
        return self.model.draw(drawings, watch)

    def origin(self, image: Image, drawing: Drawing) -> Origin | None:
        """As the other model begins with it."""
        return self.model.origin(image, drawing)

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        """As the other model's text encoder does."""
        encoder: TextEncoder = self.model  # type: ignore[assignment]
        return encoder.encode(texts, reading)

"""An image model around another one."""

from __future__ import annotations

from collections.abc import Sequence

from npcorrect.diffusion.base import Drawing, ImageModel, Look, OnStep
from npcorrect.records import Generation, Request


class Wrapper:
    """Does what the other model does; a subclass changes one thing."""

    def __init__(self, model: ImageModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The other model's name."""
        return self.model.name

    def resolve(
        self, request: Request, negative_prompt: str | None = None, attempt: int = 0
    ) -> Drawing:
        """As the other model resolves it."""
        return self.model.resolve(request, negative_prompt, attempt)

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        """As the other model draws them."""
        return self.model.draw(drawings, on_step, look, origin)

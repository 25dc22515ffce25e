"""Workers that die, and some that cannot begin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from npcorrect.diffusion.base import Drawing, Look, OnStep
from npcorrect.errors import ModelError
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.fake import FakeModel, fake_tools
from npcorrect.records import Generation


@dataclass
class MortalModel:
    """Ends its own process at the first drawings of some prompts."""

    folder: Path
    deadly: Sequence[str]
    times: int
    name: str = "mortal"

    def resolve(self, *arguments: Any) -> Drawing:
        return FakeModel().resolve(*arguments)

    def draw(
        self,
        drawings: Sequence[Drawing],
        on_step: OnStep | None = None,
        look: Look | None = None,
        origin: Generation | None = None,
    ) -> list[Generation]:
        prompt = drawings[0].prompt
        graves = [self.folder / f"{prompt[:9]}-{i}" for i in range(self.times)]
        for grave in graves:
            if prompt in self.deadly and not grave.exists():
                grave.touch()
                os._exit(1)
        return FakeModel().draw(drawings, on_step, look)


def mortal_tools(folder: Path, deadly: Sequence[str], times: int) -> Tools:
    return replace(fake_tools(), model=MortalModel(folder, deadly, times))


def unloadable() -> Tools:
    raise ModelError("There is no such model.")

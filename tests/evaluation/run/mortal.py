"""Workers that die, and some that cannot begin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from npcorrect.diffusion.base import UNWATCHED, Watch
from npcorrect.errors import ModelError
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.fake import FakeModel, fake_tools
from npcorrect.records import Drawing, Generation


class MortalModel(FakeModel):
    """Ends its own process at the first drawings of some prompts."""

    def __init__(self, folder: Path, deadly: Sequence[str], times: int) -> None:
        super().__init__()
        self.folder, self.deadly, self.times = folder, deadly, times

    def draw(self, drawings: Sequence[Drawing], watch: Watch = UNWATCHED) -> list[Generation]:
        prompt = drawings[0].prompt
        graves = [self.folder / f"{prompt[:9]}-{i}" for i in range(self.times)]
        for grave in graves:
            if prompt in self.deadly and not grave.exists():
                grave.touch()
                os._exit(1)
        return super().draw(drawings, watch)


def mortal_tools(folder: Path, deadly: Sequence[str], times: int) -> Tools:
    tools = fake_tools()
    model = MortalModel(folder, deadly, times)
    return replace(tools, session=replace(tools.session, model=model))


def unloadable() -> Tools:
    raise ModelError("There is no such model.")

"""Workers that die, and some that cannot begin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from npcorrect.errors import ModelError
from npcorrect.evaluation.methods.base import Tools
from npcorrect.evaluation.run.fake import fake_model, fake_tools
from npcorrect.records import Drawing


def mortal_tools(folder: Path, deadly: Sequence[str], times: int) -> Tools:
    """Tools whose model ends its own process at the first drawings of some prompts."""

    def on_draw(drawing: Drawing) -> None:
        for grave in (folder / f"{drawing.prompt[:9]}-{i}" for i in range(times)):
            if drawing.prompt in deadly and not grave.exists():
                grave.touch()
                os._exit(1)

    tools = fake_tools()
    return replace(tools, session=replace(tools.session, model=fake_model(on_draw)))


def unloadable() -> Tools:
    raise ModelError("There is no such model.")

"""In whose words a judge is asked: ours, or those of the upstream script.

Upstream's texts lie in folders of their own, with their source and their licence.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from PIL.Image import Image

from npcorrect.vlm.base import Encoding, Message

Wording = Literal["default", "upstream"]
JPEG = Encoding("JPEG")
"""Full size, with Pillow's quality of 75."""
JPEG_AS_PNG = Encoding("JPEG", media_type="image/png")
"""The same file, which upstream's script declares as a PNG."""


@cache
def text(folder: str, name: str) -> str:
    """A text of an upstream script, exactly."""
    resource = files("npcorrect.evaluation.benchmarks").joinpath(folder, f"{name}.txt")
    return resource.read_bytes().decode()


def messages(system: str, user: str, image: Image, encoding: Encoding) -> tuple[Message, ...]:
    """A system message, and a user's text with the picture behind it."""
    shown = Message("user", user, (image,), text_first=True, encoding=encoding)
    return Message("system", system), shown

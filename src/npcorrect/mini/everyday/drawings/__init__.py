"""The 80 drawings, by the name of their kind."""

from npcorrect.mini.everyday.drawings.home import HOME
from npcorrect.mini.everyday.drawings.living import LIVING
from npcorrect.mini.everyday.drawings.outdoors import OUTDOORS
from npcorrect.mini.everyday.drawings.tools import TOOLS
from npcorrect.mini.everyday.shapes import Shape

DRAWINGS: dict[str, tuple[Shape, ...]] = LIVING | HOME | TOOLS | OUTDOORS

__all__ = ["DRAWINGS"]

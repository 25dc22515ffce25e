"""The 80 drawings, by the name of their kind."""

from npcorrect.mini.drawings.home import HOME
from npcorrect.mini.drawings.living import LIVING
from npcorrect.mini.drawings.outdoors import OUTDOORS
from npcorrect.mini.drawings.tools import TOOLS
from npcorrect.mini.shapes import Shape

DRAWINGS: dict[str, tuple[Shape, ...]] = LIVING | HOME | TOOLS | OUTDOORS

__all__ = ["DRAWINGS"]

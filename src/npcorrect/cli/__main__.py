"""``python -m npcorrect.cli``."""

from npcorrect.cli import main

main()

"""``python -m npcorrect``."""

from npcorrect.cli import main

main()

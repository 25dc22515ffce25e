"""``npc``, and ``python -m npcorrect``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command, or say in one sentence what it needs."""
    try:
        from npcorrect.cli import main as run
    except ModuleNotFoundError as error:
        if str(error.name).startswith("npcorrect"):
            raise
        sys.exit(
            f"npc: the command needs the package {error.name!r}; install it with: "
            "pip install 'npcorrect[app]'"
        )
    run()


if __name__ == "__main__":
    main()

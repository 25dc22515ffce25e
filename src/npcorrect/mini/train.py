"""How the embedded weights were made: ``python -m npcorrect.mini.train --out DIR``.

The stages of :data:`STAGES`, in this order, each resumed from its checkpoint in ``DIR`` and skipped
once finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from npcorrect.mini.cell_stages import train_decoder, train_encoder, train_verifier
from npcorrect.mini.flow_stages import train_student, train_teacher, train_text
from npcorrect.mini.training_run import run_stages
from npcorrect.mini.training_settings import TrainingSettings

STAGES: dict[str, Callable[[TrainingSettings, Path], None]] = {
    "encoder": train_encoder,
    "text": train_text,
    "decoder": train_decoder,
    "teacher": train_teacher,
    "student": train_student,
    "verifier": train_verifier,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are asked for; all of them by default."""
    run_stages("npcorrect.mini.train", STAGES, TrainingSettings, arguments)


if __name__ == "__main__":
    main()

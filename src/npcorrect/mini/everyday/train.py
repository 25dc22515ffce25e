"""How the embedded weights were made: ``python -m npcorrect.mini.everyday.train --out DIR``.

The stages of :data:`STAGES`, in this order, each resumed from its checkpoint in ``DIR`` and skipped
once finished.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from npcorrect.mini.everyday.cell_stages import train_decoder, train_encoder, train_verifier
from npcorrect.mini.everyday.flow_stages import train_student, train_teacher, train_text
from npcorrect.mini.everyday.runs import Plan

STAGES: dict[str, Callable[[Plan, Path], None]] = {
    "encoder": train_encoder,
    "text": train_text,
    "decoder": train_decoder,
    "teacher": train_teacher,
    "student": train_student,
    "verifier": train_verifier,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are asked for; all of them by default."""
    parser = argparse.ArgumentParser(
        prog="python -m npcorrect.mini.everyday.train", description="Train the miniature model."
    )
    parser.add_argument("--out", type=Path, default=Path("checkpoints"), help="folder to write to")
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=list(STAGES))
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default_device, help="cpu or cuda")
    for name in STAGES:
        default = getattr(Plan(), name)
        parser.add_argument(f"--{name}-steps", type=int, default=default, metavar="N")
    parser.add_argument("--batch", type=int, default=Plan().batch)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    steps = {name: getattr(options, f"{name}_steps") for name in STAGES}
    plan = Plan(**steps, batch=options.batch, device=options.device, seed=options.seed)
    torch.manual_seed(options.seed)
    for name in options.stage:
        STAGES[name](plan, options.out)


if __name__ == "__main__":
    main()

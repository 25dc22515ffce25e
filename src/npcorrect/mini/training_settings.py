"""How the training of the embedded model is laid out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSettings:
    """Steps of each stage, pictures of a batch, processes that make them, device and seed.

    The shipped weights were made on a GPU by these steps; the model card has each batch.
    """

    encoder: int = 2_000
    text: int = 900
    decoder: int = 4_000
    teacher: int = 3_300
    student: int = 700
    verifier: int = 3_000
    batch: int = 1_024
    processes: int = 0
    device: str = "cpu"
    seed: int = 0

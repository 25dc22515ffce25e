"""How the training of the embedded model is laid out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Steps of each stage, pictures of a batch, processes that make them, device and seed."""

    encoder: int = 1_500
    text: int = 800
    decoder: int = 600
    teacher: int = 6_000
    student: int = 700
    verifier: int = 1_500
    batch: int = 128
    processes: int = 0
    device: str = "cpu"
    seed: int = 0

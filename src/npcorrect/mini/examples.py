"""Batches of training examples, made in processes of their own so that a GPU never waits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from npcorrect.mini.data import sample_pair
from npcorrect.mini.labels import cell_labels, text_labels, word_labels
from npcorrect.mini.language import MAX_TOKENS, Spec
from npcorrect.mini.scene import Scene
from npcorrect.mini.training_settings import TrainingSettings


class Examples(NamedTuple):
    """A batch of B scenes and captions."""

    cells: Tensor
    """Labels of the cells, ``(B, 9, 4)``."""
    tokens: Tensor
    """Token ids of the captions, ``(B, MAX_TOKENS)``."""
    words: Tensor
    """Labels of all nouns of all captions, ``(nouns, 5)``."""
    named: Tensor
    """Which kinds each caption names, ``(B, kinds)``, 0 or 1."""
    totals: Tensor
    """How many things each caption names, ``(B,)``."""


class _Stream(IterableDataset[Examples]):
    """Batches without end, different in each process."""

    def __init__(self, seed: str, batch: int) -> None:
        self.seed, self.batch = seed, batch

    def __iter__(self) -> Iterator[Examples]:
        worker = get_worker_info()
        rng = random.Random(f"{self.seed}/{worker.id if worker else 0}")
        while True:
            yield _examples(rng, self.batch)


def _examples(rng: random.Random, count: int) -> Examples:
    pairs: list[tuple[Scene, Spec]] = []
    while len(pairs) < count:
        scene, spec = sample_pair(rng)
        if len(spec.tokens()) < MAX_TOKENS:
            pairs.append((scene, spec))
    named, totals = zip(*(text_labels(spec) for _, spec in pairs), strict=True)
    return Examples(
        torch.tensor([cell_labels(scene) for scene, _ in pairs]),
        torch.tensor([spec.token_ids() for _, spec in pairs]),
        torch.tensor([label for _, spec in pairs for label in word_labels(spec)]),
        torch.tensor(named),
        torch.tensor(totals),
    )


def stream(settings: TrainingSettings, step: int) -> Iterator[Examples]:
    """Batches on the settings' device; a run that is resumed at ``step`` sees new ones."""
    examples = _Stream(f"{settings.seed}/{step}", settings.batch)
    loader = DataLoader(
        examples,
        batch_size=None,
        num_workers=settings.processes,
        prefetch_factor=4 if settings.processes else None,
        pin_memory=settings.device != "cpu",
    )
    for batch in loader:
        yield Examples(*(part.to(settings.device, non_blocking=True) for part in batch))

"""How the embedded roles look at pictures: once, by a network that reads scenes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from npcorrect.errors import VLMError
from npcorrect.mini.tensors import to_pixels
from npcorrect.records import Caption, Check, Checklist, Requirement, Verdict

S = TypeVar("S")
"""A world's scene."""


class Reader(Protocol[S]):
    """Sees scenes in pixels ``(B, 3, side, side)`` in -1..1."""

    def read(self, pixels: Tensor) -> list[tuple[S, float]]:
        """The scene of each picture, and how certain it is, 0 to 1."""
        ...


class Eyes(ABC, Generic[S]):
    """Verifies and captions pictures of a world; looks at each picture once."""

    side: ClassVar[int]
    """Pixels of a picture's sides."""

    def __init__(self, network: Reader[S]) -> None:
        self._network = network
        self._last: tuple[bytes, tuple[S, float]] | None = None

    def verify(self, image: Image, checklist: Checklist) -> Verdict:
        """One check per requirement.

        A claim that depends on a failed one is moot: it fails too, and observes nothing.

        Raises:
            VLMError: the picture has another size than the world's.
        """
        scene, certainty = self.look(image)
        checks: dict[str, Check] = {}
        for claim in checklist.requirements:
            moot = any(not checks[needed].passed for needed in claim.depends_on)
            passed = not moot and self.satisfied(claim, scene, checklist)
            observed = "" if passed or moot else self.observed(claim, scene)
            checks[claim.id] = Check(claim, passed, observed, certainty)
        return Verdict(tuple(checks.values()))

    @abstractmethod
    def caption(self, image: Image) -> Caption:
        """The picture in the words that the world's model was trained on."""

    @abstractmethod
    def satisfied(self, claim: Requirement, scene: S, checklist: Checklist) -> bool:
        """Whether a claim of a checklist holds in a scene."""

    @abstractmethod
    def observed(self, claim: Requirement, scene: S) -> str:
        """The bare phrase of what is seen where a claim fails; empty where nothing can be named."""

    def look(self, image: Image) -> tuple[S, float]:
        """The scene of a picture, and how certain it is, 0 to 1.

        Raises:
            VLMError: the picture has another size than the world's.
        """
        if image.size != (self.side, self.side):
            raise VLMError(
                f"The embedded verifier reads pictures of {self.side} x {self.side} pixels, not "
                f"{image.width} x {image.height}; use another verifier for this picture."
            )
        picture = image.convert("RGB")
        key = picture.tobytes()
        if self._last is None or self._last[0] != key:
            pixels = to_pixels(torch.from_numpy(np.array(picture)[None]))
            self._last = key, self._network.read(pixels)[0]
        return self._last[1]

"""How much of the first picture a correction keeps: a pure function of two pictures.

A grid of blocks rather than pixels, because it is told in the reader's terms ("nine tenths of the
picture are as they were") and forgives noise; several samples in each block, because a texture
that moved has changed though its mean has not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL.Image import Image, Resampling

BLOCKS = 12
"""Blocks along each side."""
SAMPLES = 4
"""Samples along each side of a block, each the mean colour of its part of the picture."""
TOLERANCE = 8.0
"""The greatest root mean square difference of a kept block, in levels of 0 to 255.

Of its samples' red, green and blue. JPEG's noise stays well below it; what the eye sees as another
colour or another place lies above.
"""


def kept(first: Image, chosen: Image) -> float:
    """The share of blocks, 0 to 1, in which two pictures agree within ``TOLERANCE``.

    The blocks are of 1/``BLOCKS`` of each side, so pictures of different sizes are compared as if
    scaled to one. Symmetric; 1 for the same picture. Transparency is ignored.
    """
    squares = (_samples(first) - _samples(chosen)) ** 2
    blocks = squares.reshape(BLOCKS, SAMPLES, BLOCKS, SAMPLES, 3).mean(axis=(1, 3, 4))
    return float((blocks <= TOLERANCE**2).mean())


def _samples(image: Image) -> npt.NDArray[np.float64]:
    """The mean colours of a grid, ``[BLOCKS * SAMPLES, BLOCKS * SAMPLES, 3]``, 0 to 255."""
    side = BLOCKS * SAMPLES
    return np.asarray(image.convert("RGB").resize((side, side), Resampling.BOX), dtype=np.float64)

"""Pictures as a model's server takes them: resized and encoded once."""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from hashlib import blake2b
from io import BytesIO
from threading import Lock

from PIL import Image

SIDE = 1024
"""Longest side that is sent; larger pictures are made smaller."""
LOSSLESS = 256 * 256
"""Pictures of up to so many pixels go as PNG, larger ones as JPEG."""
_KEPT = 32


def fingerprint(image: Image.Image) -> str:
    """A short name of a picture's pixels, palette and transparency included."""
    pixels = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    name = f"{pixels.mode}{pixels.size}".encode()
    return blake2b(name + pixels.tobytes(), digest_size=16).hexdigest()


class Encoder:
    """Makes ``data:`` URIs, and remembers the last ones. Safe to use from several threads."""

    def __init__(self, side: int = SIDE) -> None:
        self._side = side
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def uri(self, image: Image.Image) -> str:
        """The picture as a ``data:`` URI, shrunk to the longest side; PNG if small, else JPEG."""
        name = fingerprint(image)
        with self._lock:
            if name not in self._known:
                self._known[name] = _encode(image, self._side)
            self._known.move_to_end(name)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return self._known[name]


def _encode(image: Image.Image, side: int) -> str:
    picture = image.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    small = picture.width * picture.height <= LOSSLESS
    buffer = BytesIO()
    picture.save(buffer, format="PNG" if small else "JPEG", quality=92)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"

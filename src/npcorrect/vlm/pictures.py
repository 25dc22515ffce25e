"""Pictures as a model's server takes them: resized and encoded once."""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from hashlib import blake2b
from io import BytesIO
from threading import Lock

from PIL import Image

from npcorrect.vlm.base import Encoding

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
        self._known: OrderedDict[tuple[str, Encoding | None], str] = OrderedDict()
        self._lock = Lock()

    def uri(self, image: Image.Image, encoding: Encoding | None = None) -> str:
        """The picture as a ``data:`` URI, in the given encoding and its own size.

        Without an encoding it is shrunk to the longest side; PNG if it is small, else JPEG.
        """
        name = fingerprint(image), encoding
        with self._lock:
            if name not in self._known:
                self._known[name] = _encode(image, encoding) if encoding else self._small(image)
            self._known.move_to_end(name)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return self._known[name]

    def _small(self, image: Image.Image) -> str:
        """At most so many pixels a side, as PNG where that is few."""
        picture = image.convert("RGB")
        picture.thumbnail((self._side, self._side), Image.Resampling.LANCZOS)
        small = picture.width * picture.height <= LOSSLESS
        return _encode(picture, _PNG if small else _JPEG)


_PNG = Encoding("PNG", media_type="image/png")
_JPEG = Encoding("JPEG", 92)


def _encode(image: Image.Image, encoding: Encoding) -> str:
    buffer = BytesIO()
    quality = {} if encoding.quality is None else {"quality": encoding.quality}
    image.convert("RGB").save(buffer, format=encoding.format, **quality)
    return f"data:{encoding.media_type};base64,{b64encode(buffer.getvalue()).decode()}"

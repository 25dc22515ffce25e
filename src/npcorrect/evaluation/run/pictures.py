"""Pictures in files that may come from anyone, alone or in grids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from npcorrect.errors import SettingsError
from npcorrect.files import decode_picture, replacing

MAX_BYTES = 2**28


def read_file(path: Path) -> bytes:
    """The content of a regular file.

    Raises:
        ValueError: it is a link, a device or too large.
        OSError: it cannot be read.
    """
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no regular file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
    return path.read_bytes()


def picture_name(content: bytes) -> str:
    """The name of a picture's file: the first 128 bits of its SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()[:32]


@dataclass(frozen=True)
class PictureFile:
    """A picture in a file of ``grid`` x ``grid`` of them, where it is the ``place``-th, from 0."""

    path: Path
    grid: int = 1
    place: int = 0

    def read(self) -> bytes:
        """The picture as a file of its own.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            content = read_file(self.path)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The picture {str(self.path)!r} cannot be read ({error})."
            ) from None
        image = decode_picture(content, str(self.path))
        if self.grid == 1:
            return content
        width, height = image.width // self.grid, image.height // self.grid
        left, top = width * (self.place % self.grid), height * (self.place // self.grid)
        file = BytesIO()
        image.crop((left, top, left + width, top + height)).save(file, format="PNG")
        return file.getvalue()


def joined(pictures: Mapping[int, Image.Image], grid: int) -> Image.Image:
    """Pictures by their places in a grid, row by row; a place without one stays black."""
    if grid == 1:
        (picture,) = pictures.values()
        return picture
    width, height = next(iter(pictures.values())).size
    whole = Image.new("RGB", (width * grid, height * grid))
    for place, picture in pictures.items():
        whole.paste(picture, (width * (place % grid), height * (place // grid)))
    return whole


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture in one move, in its file name's format, without visible loss.

    Raises:
        OutputError: it cannot be written.
    """
    kept: dict[str, Any] = {"lossless": True}
    if path.suffix != ".webp":
        kept = {"quality": 95, "subsampling": 0}
    with replacing(path) as file:
        picture.save(file, format=Image.registered_extensions()[path.suffix.lower()], **kept)

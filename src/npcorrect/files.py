"""Files that are there whole or not at all, and pictures with their parameters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import IO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from npcorrect.errors import OutputError, SettingsError
from npcorrect.records import Generation


def prepare(folder: Path) -> None:
    """Make an output folder before anything is drawn.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside ``path``, which takes its place once the block has ended well.

    Its name cannot be guessed; it is removed where the block fails.

    Raises:
        OutputError: it cannot be written.
    """
    with _writing(path):
        descriptor, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move, as UTF-8.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors="replace"))


def save_png(path: Path, image: Image.Image, parameters: str = "") -> None:
    """Write a PNG in one move, with A1111's text of parameters where there is one.

    Raises:
        OutputError: it cannot be written.
    """
    info = PngInfo()
    if parameters:
        info.add_text("parameters", parameters)
    with replacing(path) as file:
        image.save(file, format="PNG", pnginfo=info)


def save_picture(path: Path, generation: Generation) -> None:
    """Write one picture with its parameters.

    Raises:
        OutputError: it cannot be written.
    """
    save_png(path, generation.image, parameters(generation))


def open_picture(path: Path) -> Image.Image:
    """A picture of a kind that cannot run anything, of a bounded size.

    Raises:
        SettingsError: there is none, or it is of another kind or too large.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            picture.load()
            return picture.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is no PNG, JPEG or WebP, or too large"
        raise SettingsError(f"The picture {str(path)!r} cannot be read ({reason}).") from None


def parameters(generation: Generation) -> str:
    """The A1111-style text: prompt, negative prompt, then one line of settings."""
    drawing = generation.drawing
    lines = [drawing.prompt]
    if drawing.negative_prompt:
        lines.append(f"Negative prompt: {drawing.negative_prompt}")
    width, height = generation.image.size
    start, stop = drawing.window
    settings = {
        "Steps": drawing.num_inference_steps,
        "CFG scale": drawing.true_cfg_scale,
        "Seed": drawing.seed,
        "Size": f"{width}x{height}",
        "NPC rule": drawing.rule,
        "NPC negative scale": drawing.negative_scale,
        "NPC window": f"{start}..{stop}",
        "NPC evaluations": generation.evaluations,
    }
    if generation.start_step:
        settings |= {"NPC start": generation.start_step, "NPC rewinds": generation.rewinds}
    if generation.steering:
        looks = (f"{step} {negative or 'none'}" for step, negative in generation.steering)
        settings["NPC steering"] = json.dumps(" > ".join(looks))
    lines.append(", ".join(f"{key}: {value}" for key, value in settings.items()))
    return "\n".join(lines)


def abridged(negatives: Sequence[str]) -> str:
    """The first and the last negative that acted, and how many lay between."""
    first, between, last = negatives[:1], negatives[1:-1], negatives[1:][-1:]
    return ", then ".join((*first, *([f"{len(between)} more"] if between else []), *last))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """One sentence in place of the system's error.

    Raises:
        OutputError: the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Cannot write {str(path)!r} ({reason}); choose another place with --out."
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

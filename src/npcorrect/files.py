"""Files that are there whole or not at all, and pictures with their parameters."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from stat import S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG
from tempfile import mkstemp
from typing import IO, Any

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from npcorrect.errors import OutputError, SettingsError
from npcorrect.extras import requiring
from npcorrect.provenance import Provenance
from npcorrect.records import Generation, joined
from npcorrect.text import shown

PARAMETERS = "parameters"
"""The PNG text in which A1111, and whoever follows it, keeps how a picture was drawn."""
RECORD = "npcorrect"
"""The PNG text in which this program keeps what it needs to draw the picture again, as JSON."""
_PNG_LEVEL = 4
"""Smooth pictures, and sheets, take a third of the time of zlib's usual 6, at few bytes more."""
_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
MAX_TEXT_FILE = 64 * 2**20
"""Bytes that a text file may have."""


def given_path(place: object) -> Path:
    """A path as somebody gave it; an empty one, as an unset variable is, is not the current folder.

    Raises:
        SettingsError: it is empty, or no path.
    """
    if not isinstance(place, str | Path) or not str(place).strip() or "\0" in str(place):
        raise SettingsError(
            f"The place given is {shown(place)}: it is no path; name a file or a folder, '.' for "
            "the current one."
        )
    return Path(place)


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
def locked(path: Path, taken: str) -> Iterator[None]:
    """Keep other processes out, by a file that is locked for as long as the block lasts.

    Raises:
        OutputError: another process has it, as ``taken`` says, or it cannot be written.
        SettingsError: the package that locks files is not installed.
    """
    with requiring("Writing to a folder"):
        from filelock import FileLock, Timeout

    lock = FileLock(path)
    with _writing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(taken) from None
    try:
        yield
    finally:
        lock.release()


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


def foreign_to_database(path: Path) -> str:
    """What is in the place of an SQLite file or of one that SQLite keeps beside it.

    Such as "'jobs.sqlite' is a pipe"; empty where there are files, or nothing. A pipe
    would never be read to its end, and a link leads to a file of somebody else's.
    """
    places = (path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", "-journal"))
    return next((f"{p.name!r} is {kind}" for p in places if (kind := _foreign(p))), "")


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move, as UTF-8.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors="replace"))


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        SettingsError: there is no such file, it is too large, or it is no UTF-8.
    """
    try:
        if not path.is_file():
            raise OSError(2, "it is no file" if path.exists() else "there is no such file")
        if path.stat().st_size > MAX_TEXT_FILE:
            raise OSError(27, f"it has more than {MAX_TEXT_FILE >> 20} MiB")
        return decoded(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the name cannot be used"
        raise SettingsError(f"{str(path)!r} cannot be read ({reason}).") from None


def decoded(content: bytes, name: str) -> str:
    """A file's content as text; ``name`` is what messages call the file.

    Raises:
        SettingsError: it is no UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{name!r} is no UTF-8 text (byte {error.start} is 0x{content[error.start]:02x}); "
            "save it as UTF-8."
        ) from None


def read_json(text: str) -> Any:
    """JSON as the standard has it: without NaN and infinities.

    Raises:
        ValueError: it is no JSON, or its values nest too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("its values nest too deeply") from None


def save_png(path: Path, image: Image.Image, texts: Mapping[str, str] = {}) -> None:
    """Write a PNG in one move, with texts by their keywords.

    Raises:
        OutputError: it cannot be written.
    """
    info = PngInfo()
    for keyword, text in texts.items():
        # What is no text, such as a lone surrogate of a server's, must not lose the picture.
        info.add_text(keyword, text.encode("utf-8", "replace").decode().replace("\0", ""))
    with replacing(path) as file:
        _writable(image).save(file, format="PNG", pnginfo=info, compress_level=_PNG_LEVEL)


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    file = BytesIO()
    _writable(image).save(file, format="PNG", compress_level=_PNG_LEVEL)
    return file.getvalue()


def save_picture(
    path: Path, generation: Generation, made_with: Provenance | None = None, record: str = ""
) -> None:
    """Write one picture with its parameters, and its record where there is one.

    Raises:
        OutputError: it cannot be written.
    """
    texts = {PARAMETERS: parameters(generation, made_with)}
    save_png(path, generation.image, texts | ({RECORD: record} if record else {}))


def open_picture(path: Path) -> Image.Image:
    """A picture in RGB and upright, of a kind that cannot run anything, of a bounded size.

    Raises:
        SettingsError: there is none, or it is of another kind, damaged or too large.
    """
    if not path.is_file():  # also where it is a device or a pipe, which might never end
        raise SettingsError(f"There is no picture {str(path)!r}; check the path.")
    with _reading(str(path)), _opened(path) as picture:
        return _rgb(picture)


def decode_picture(content: bytes, name: str) -> Image.Image:
    """A picture from a file's content, as :func:`open_picture` has it; ``name`` is for messages.

    Raises:
        SettingsError: it is of another kind, damaged or too large.
    """
    with _reading(name), _opened(BytesIO(content)) as picture:
        return _rgb(picture)


def upright(picture: Image.Image, name: str) -> Image.Image:
    """A picture in RGB and upright, itself where it is so; ``name`` is for messages.

    Raises:
        SettingsError: its pixels cannot be read.
    """
    with _reading(name):
        picture.load()
        return picture if picture.mode == "RGB" and not picture.getexif() else _rgb(picture)


def picture_texts(path: Path) -> Mapping[str, str]:
    """The texts in a PNG by their keywords; none in pictures of other kinds.

    Raises:
        SettingsError: it cannot be read; see :func:`open_picture`.
    """
    if not path.is_file():
        raise SettingsError(f"There is no picture {str(path)!r}; check the path.")
    with _reading(str(path)), _opened(path) as picture:
        picture.load()
        return {key: str(text) for key, text in getattr(picture, "text", {}).items()}


def parameters(generation: Generation, made_with: Provenance | None = None) -> str:
    """The A1111-style text: prompt, negative prompt, then one line of settings."""
    drawing = generation.drawing
    lines = [drawing.prompt]
    if negative := joined(drawing.standing_negative, drawing.negative_prompt):
        lines.append(f"Negative prompt: {negative}")
    width, height = generation.image.size
    start, stop = drawing.window
    settings = {
        "Steps": drawing.num_inference_steps,
        "Sampler": made_with.sampler if made_with else "",
        "CFG scale": drawing.true_cfg_scale,
        "Seed": drawing.seed,
        "Size": f"{width}x{height}",
        "Model hash": made_with.weights[:10] if made_with else "",
        "Model": made_with.load.model_name if made_with else "",
        "Lora": ", ".join(made_with.load.lora) if made_with else "",
        "NPC rule": drawing.rule,
        "NPC negative scale": drawing.negative_scale,
        "NPC window": f"{start}..{stop}",
        "NPC evaluations": generation.evaluations,
    }
    receipt = generation.receipt
    if receipt is not None:
        settings["NPC acted"] = receipt.evaluations
    if receipt is not None and receipt.evaluations:
        settings["NPC acted in"] = f"{receipt.start}..{receipt.stop}"
    if receipt is not None and receipt.moved is not None:
        settings["NPC moved"] = f"{receipt.moved:.3g}"
    if generation.start_step:
        settings |= {"NPC start": generation.start_step, "NPC rewinds": generation.rewinds}
    if generation.steering:
        looks = (f"{step} {negative or 'none'}" for step, negative in generation.steering)
        settings["NPC steering"] = " > ".join(looks)
    lines.append(
        ", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items() if value != "")
    )
    return "\n".join(lines)


def _writable(image: Image.Image) -> Image.Image:
    """The picture, in RGB where a PNG has no such pixels: a model may paint in CMYK."""
    return image if image.mode in _PNG_MODES else image.convert("RGB")


def _quoted(value: object) -> str:
    """A value as A1111 writes it: in quotes where it has what separates values."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if {*text} & {*',:\n"'} else text


@contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as picture:
            yield picture


def _rgb(picture: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # 16 bits, which a conversion would cut off, not scale
        upright = upright.point(lambda value: value / 257.0, "L")
    return upright.convert("RGB")


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """One sentence in place of whatever a decoder raises on a file from outside.

    Raises:
        SettingsError: the picture cannot be read.
    """
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or "it is no PNG, JPEG or WebP, or too large"
        raise SettingsError(f"The picture {name!r} cannot be read ({reason}).") from error


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


def _foreign(path: Path) -> str:
    """What is in the place of a file and is none; empty where there is a file, or nothing."""
    try:
        mode = path.lstat().st_mode
    except OSError:  # what cannot be looked at cannot be opened either, which says why
        return ""
    kinds = {S_IFREG: "", S_IFLNK: "a link", S_IFDIR: "a folder", S_IFIFO: "a pipe"}
    return kinds.get(S_IFMT(mode), "a device or a socket")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

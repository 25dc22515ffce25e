"""The two ways to ask a server for a picture, A1111's and OpenAI's, and how their replies are read.

Nothing is fetched from an address that a reply names: only pictures within it are taken.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from PIL.Image import Image

from npcorrect.errors import SettingsError
from npcorrect.files import decode_picture, read_json
from npcorrect.remote.capabilities import Asked, Capabilities, Parameter


class NoPictureError(Exception):
    """A reply has no picture; says why in a clause."""


@dataclass(frozen=True)
class Call:
    """Where a request goes, behind the server's address, and its content as ``httpx2`` has it."""

    path: str
    content: Mapping[str, Any]


class Dialect(Protocol):
    """A server's way to be asked for pictures, and to reply."""

    @property
    def names(self) -> Mapping[Parameter, tuple[str, ...]]:
        """The names that parameters may have, the likeliest first."""
        ...

    @property
    def few(self) -> bool:
        """Whether a number of steps is surely read."""
        ...

    @property
    def least(self) -> tuple[Capabilities, ...]:
        """The least that a request may contain, in the order to try."""
        ...

    def call(self, model: str, asked: Asked, able: Capabilities) -> Call:
        """The request for one picture, as this API words it for what the server can."""
        ...

    def read(self, raw: str) -> Image:
        """The picture in a reply, in RGB.

        Raises:
            NoPictureError: there is none.
        """
        ...


class A1111:
    """``/sdapi/v1/txt2img`` and ``img2img``, as AUTOMATIC1111's web UI and its kin have them."""

    names: Mapping[Parameter, tuple[str, ...]] = {
        "seed": ("seed",),
        "negative": ("negative_prompt",),
        "steps": ("steps",),
        "scale": ("cfg_scale",),
        "strength": ("denoising_strength",),
    }
    few = True
    least = (Capabilities(names={}),)

    def call(self, model: str, asked: Asked, able: Capabilities) -> Call:
        """The request for a picture; see :class:`Dialect`."""
        body: dict[str, Any] = {"prompt": asked.prompt, **_named(asked, able)}
        if asked.size and able.sized:
            body["width"], body["height"] = asked.size
        if model:
            body["override_settings"] = {"sd_model_checkpoint": model}
        if asked.image is None:
            return Call("/sdapi/v1/txt2img", {"json": body})
        body["init_images"] = [b64encode(_png(asked.image)).decode()]
        return Call("/sdapi/v1/img2img", {"json": body})

    def read(self, raw: str) -> Image:
        """The first picture of a reply, in RGB.

        Raises:
            NoPictureError: there is none.
        """
        return _decoded(_first(raw, "images"))


class OpenAIImages:
    """``/images/generations`` and ``/images/edits``.

    OpenAI's own knows no seed and no negative prompt; other servers do, each by its own names.
    """

    names: Mapping[Parameter, tuple[str, ...]] = {
        "seed": ("seed",),
        "negative": ("negative_prompt",),
        "steps": ("num_inference_steps", "steps"),
        "scale": ("true_cfg_scale", "guidance_scale", "cfg_scale", "scale"),
        "strength": ("strength",),
    }
    few = False
    least = (Capabilities(names={}, base64=True), Capabilities(names={}))

    def call(self, model: str, asked: Asked, able: Capabilities) -> Call:
        """The request for a picture; see :class:`Dialect`."""
        body: dict[str, Any] = {"model": model, "prompt": asked.prompt, "n": 1}
        body |= _named(asked, able)
        if asked.size and able.sized:
            body["size"] = "{}x{}".format(*asked.size)
        if able.base64:
            body["response_format"] = "b64_json"
        if asked.image is None:
            return Call("/images/generations", {"json": body})
        fields = {name: str(value) for name, value in body.items()}
        image = {"image": ("image.png", _png(asked.image), "image/png")}
        return Call("/images/edits", {"data": fields, "files": image})

    def read(self, raw: str) -> Image:
        """The first picture of a reply, in RGB.

        Raises:
            NoPictureError: there is none.
        """
        entry = _first(raw, "data")
        if not isinstance(entry, dict):
            raise NoPictureError("its 'data' holds no object")
        if entry.get("url") and not entry.get("b64_json"):
            raise NoPictureError("it gives an address in place of a picture")
        return _decoded(entry.get("b64_json"))


def _named(asked: Asked, able: Capabilities) -> dict[str, Any]:
    """What is asked for, under the server's own names; what it does not take is left out."""
    values = ((name, getattr(asked, parameter)) for parameter, name in able.names.items())
    return {name: value for name, value in values if value is not None}


def _first(raw: str, key: str) -> Any:
    """The first entry of a list in a reply."""
    try:
        entries = read_json(raw)[key]
        return entries[0] if isinstance(entries, list) else None
    except (ValueError, KeyError, TypeError, IndexError):
        raise NoPictureError(f"it is no JSON with a list of {key!r}") from None


def _decoded(text: Any) -> Image:
    if not isinstance(text, str):
        raise NoPictureError("there is no text where the picture should be")
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return decode_picture(b64decode(encoded, validate=True), "in the reply")
    except ValueError:
        raise NoPictureError("the picture is no base64") from None
    except SettingsError:
        raise NoPictureError("it is no PNG, JPEG or WebP, or too large") from None


def _png(image: Image) -> bytes:
    file = BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()

"""Pictures are made smaller and encoded once, however often they are sent."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import pytest
from PIL import Image

from npcorrect.vlm import pictures
from npcorrect.vlm.base import Encoding
from npcorrect.vlm.pictures import Encoder


def opened(uri: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(uri.partition(",")[2])))


def test_a_picture_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[tuple[int, int]] = []
    encode = pictures._encode

    def counting(image: Image.Image, encoding: Encoding) -> str:
        encoded.append(image.size)
        return encode(image, encoding)

    monkeypatch.setattr(pictures, "_encode", counting)
    encoder, picture = Encoder(), Image.new("RGB", (64, 64), "red")
    assert len({encoder.uri(picture), encoder.uri(picture.copy()), encoder.uri(picture)}) == 1
    assert encoder.uri(Image.new("RGB", (64, 64), "blue")) != encoder.uri(picture)
    assert encoded == [(64, 64)] * 2


@pytest.mark.parametrize(
    ("size", "sent", "kind"),
    [((96, 96), (96, 96), "png"), ((512, 512), (512, 512), "jpeg"),
     ((4000, 1000), (1024, 256), "jpeg"), ((10, 3000), (3, 1024), "png")],
)  # fmt: skip
def test_size_and_format(size: tuple[int, int], sent: tuple[int, int], kind: str) -> None:
    uri = Encoder().uri(Image.new("RGB", size))
    assert uri.startswith(f"data:image/{kind};base64,")
    assert opened(uri).size == sent


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK"])
def test_every_mode_is_sent_as_colours(mode: str) -> None:
    assert opened(Encoder().uri(Image.new(mode, (8, 8)))).mode == "RGB"


def test_only_the_last_pictures_are_remembered() -> None:
    encoder = Encoder()
    for shade in range(3 * pictures._KEPT):
        encoder.uri(Image.new("RGB", (2, 2), (shade, 0, 0)))
    assert len(encoder._known) == pictures._KEPT


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_an_encoding_that_is_asked_for_is_taken_at_full_size(media_type: str) -> None:
    picture = Image.effect_noise((2000, 10), 50)
    uri = Encoder().uri(picture, Encoding("JPEG", media_type=media_type))
    assert uri.startswith(f"data:{media_type};base64,")
    image = opened(uri)
    assert (image.format, image.size) == ("JPEG", (2000, 10))
    plain = BytesIO()
    picture.convert("RGB").save(plain, format="JPEG")
    assert b64decode(uri.partition(",")[2]) == plain.getvalue()

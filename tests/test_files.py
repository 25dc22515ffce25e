"""Files are there whole or not at all; pictures from outside are upright, bounded and refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from npcorrect.errors import OutputError, SettingsError
from npcorrect.files import (
    decode_picture,
    locked,
    open_picture,
    parameters,
    picture_texts,
    png,
    prepare,
    read_json,
    read_text,
    replacing,
    save_picture,
    save_png,
    write_text,
)
from npcorrect.provenance import Provenance
from npcorrect.records import Drawing, Generation, Receipt
from npcorrect.settings import LoadSettings

DRAWING = Drawing(
    prompt="three apples", seed=7, negative_prompt="four apples", num_inference_steps=24,
    true_cfg_scale=2.0, negative_scale=1.0, rule="extra", window=(0, 24), height=96, width=96,
)  # fmt: skip
GENERATION = Generation(
    image=Image.new("RGB", (96, 96)), drawing=DRAWING, evaluations=48, seconds=0.1
)
MADE_WITH = Provenance(
    load=LoadSettings(model="some, model"), weights="0123456789abcdef", scheduler="PNDMScheduler"
)


def test_pictures_carry_their_parameters(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", GENERATION, MADE_WITH, '{"x": 1}')
    texts = picture_texts(tmp_path / "a.png")
    assert texts["parameters"] == parameters(GENERATION, MADE_WITH)
    assert texts["npcorrect"] == '{"x": 1}'
    lines = texts["parameters"].splitlines()
    assert lines[:2] == ["three apples", "Negative prompt: four apples"]
    assert lines[2].startswith(
        "Steps: 24, Sampler: PLMS, CFG scale: 2.0, Seed: 7, Size: 96x96, Model hash: 0123456789, "
        'Model: "some, model", '
    )


@pytest.mark.parametrize(
    ("standing", "negative", "line"),
    [
        ("lowres", "four apples", "Negative prompt: lowres, four apples"),
        ("lowres", None, "Negative prompt: lowres"),
        (" ", None, "Steps: 24"),
    ],
)
def test_parameters_have_both_negatives(standing: str, negative: str | None, line: str) -> None:
    drawing = replace(DRAWING, standing_negative=standing, negative_prompt=negative)
    written = parameters(replace(GENERATION, drawing=drawing)).splitlines()
    assert written[1].startswith(line)


def test_parameters_tell_how_looks_renewed_the_negative() -> None:
    steered = replace(GENERATION, steering=((4, "a, b"), (8, None)))
    assert 'NPC steering: "4 a, b > 8 none"' in parameters(steered)
    assert "steering" not in parameters(GENERATION)
    assert "Model" not in parameters(GENERATION)


def test_parameters_tell_in_what_the_negative_acted() -> None:
    acted = parameters(replace(GENERATION, receipt=Receipt(3, 0, 4, 0.12345)))
    assert "NPC acted: 3, NPC acted in: 0..4, NPC moved: 0.123" in acted
    unknown = parameters(replace(GENERATION, receipt=Receipt(3, 0, 4)))
    assert "NPC acted: 3, NPC acted in: 0..4" in unknown
    assert "NPC moved" not in unknown
    withdrawn = parameters(replace(GENERATION, receipt=Receipt()))
    assert withdrawn.endswith("NPC acted: 0")
    assert "NPC acted" not in parameters(GENERATION)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("/home/me/models/ghostmix_v2.safetensors", "ghostmix_v2"),
        ("C:\\models\\ghostmix_v2.safetensors", "ghostmix_v2"),
        ("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-dev"),
    ],
)
def test_a_model_is_named_as_others_name_it(model: str, name: str) -> None:
    text = parameters(GENERATION, Provenance(load=LoadSettings(model=model)))
    assert f"Model: {name}, " in text


def test_a_negative_that_is_no_text_loses_no_picture(tmp_path: Path) -> None:
    odd = replace(GENERATION, drawing=replace(DRAWING, negative_prompt="a\ud800b\0c 三"))
    save_picture(tmp_path / "a.png", odd)
    assert "Negative prompt: a?bc 三" in picture_texts(tmp_path / "a.png")["parameters"]


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")

    def fails() -> None:
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"after")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        fails()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another place with --out"):
        prepare(tmp_path / "file" / "out")


def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "best.png").symlink_to(tmp_path / "target")
    write_text(tmp_path / "best.png", "new")
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(__file__)])
def test_what_cannot_be_locked_is_one_sentence(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "lock")
    with (
        pytest.raises(OutputError, match="Cannot write"),
        locked(tmp_path / "lock", "It is taken."),
    ):
        pass
    assert Path(__file__).stat().st_size


def test_a_lock_keeps_others_out_for_as_long_as_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        locked(path, "It is taken."),
        pytest.raises(OutputError, match="It is taken"),
        locked(path, "It is taken."),
    ):
        pass
    with locked(path, "It is taken."):
        pass


def test_text_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbftr\xc3\xa8s")
    assert read_text(tmp_path / "a") == "très"


@pytest.mark.parametrize(
    ("name", "why"),
    [("nowhere", "no such file"), (".", "is no file"), ("pipe", "is no file"), ("a\0b", "")],
)
def test_what_is_no_text_file_is_refused(name: str, why: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match=f"cannot be read.*{why}"):
        read_text(tmp_path / name)


def test_what_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"caf\xe9")
    with pytest.raises(SettingsError, match="byte 3 is 0xe9"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "[" * 100_000, "{"])
def test_json_is_the_standards(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


def test_pictures_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").size == (20, 40)


def test_pictures_of_16_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    opened = np.asarray(open_picture(tmp_path / "a.png"))[0, :, 0]
    assert opened.tolist() == [0, 128, 255]


def _eps(path: Path) -> None:
    Image.new("RGB", (8, 8)).save(path, "EPS")


def _much_text(path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", "x" * 2_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(path, "PNG", pnginfo=info)


def _bomb(path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(path, "PNG")


def _cut(path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:900])


def _garbled(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 60)


@pytest.mark.parametrize("make", [_eps, _much_text, _bomb, _cut, _garbled, os.mkfifo, Path.mkdir])
def test_other_pictures_are_one_sentence(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(SettingsError, match=r"picture '.*a\.png'"):
        open_picture(tmp_path / "a.png")


def test_a_picture_in_memory_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match="The picture 'upload' cannot be read"):
        decode_picture(b"GIF89a", "upload")


@pytest.mark.parametrize("mode", ["CMYK", "F", "HSV", "LAB", "YCbCr", "RGBX", "PA", "RGBA", "1"])
def test_a_picture_of_any_mode_is_written(mode: str, tmp_path: Path) -> None:
    picture = Image.new(mode, (4, 2))
    save_png(tmp_path / "a.png", picture)
    assert open_picture(tmp_path / "a.png").size == (4, 2)
    assert decode_picture(png(picture), "a").size == (4, 2)

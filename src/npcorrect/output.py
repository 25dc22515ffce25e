"""What a correction leaves on disk: pictures with their parameters, a sheet, ``result.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from npcorrect.errors import OutputError
from npcorrect.records import Attempt, Generation, Result

SCHEMA_VERSION = 1
_TILE = 320
_MARGIN = 16


def prepare(folder: Path) -> None:
    """Make the output folder before anything is drawn.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Cannot write to the output folder {str(folder)!r} ({reason}); "
            "choose another with --out."
        ) from None
    if not writable:
        raise OutputError(
            f"The output folder {str(folder)!r} is not writable; choose another with --out."
        )


def file_name(attempt: Attempt) -> str:
    """``original.png`` for the first picture, then ``attempt-1.png`` and so on."""
    return f"attempt-{attempt.index}.png" if attempt.index else "original.png"


def parameters(generation: Generation) -> str:
    """The A1111-style text: prompt, negative prompt, then one line of settings."""
    lines = [generation.prompt]
    if generation.negative_prompt:
        lines.append(f"Negative prompt: {generation.negative_prompt}")
    width, height = generation.image.size
    settings = {
        "Steps": generation.num_inference_steps,
        "CFG scale": generation.true_cfg_scale,
        "Seed": generation.seed,
        "Size": f"{width}x{height}",
        "NPC rule": generation.rule,
        "NPC negative scale": generation.negative_scale,
        "NPC window": generation.window_steps,
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


def save_picture(path: Path, generation: Generation) -> None:
    """Write one PNG with its parameters, in one move."""
    info = PngInfo()
    info.add_text("parameters", parameters(generation))
    partial = path.with_suffix(".partial")
    generation.image.save(partial, format="PNG", pnginfo=info)
    partial.replace(path)


def to_record(result: Result) -> dict[str, Any]:
    """The whole result as JSON values; pictures appear by the name of their file."""
    attempts = []
    for attempt in result.attempts:
        kept = vars(attempt.generation).items()
        generation = {k: v for k, v in kept if k not in ("image", "latents")}
        attempts.append(
            {
                "index": attempt.index,
                "file": file_name(attempt),
                "generation": generation,
                "verdict": asdict(attempt.verdict)
                | {"accepted": attempt.verdict.accepted, "score": attempt.verdict.score},
                "ranked": asdict(attempt.ranked) if attempt.ranked else None,
                "caption": asdict(attempt.caption) if attempt.caption else None,
                "cost": asdict(attempt.cost),
            }
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "request": asdict(result.request),
        "checklist": asdict(result.checklist),
        "attempts": attempts,
        "best": result.best,
        "accepted": result.accepted,
        "cost": asdict(result.cost),
    }


def save_result(folder: Path, result: Result) -> None:
    """Write ``best.png``, ``sheet.png`` and ``result.json``."""
    best = result.attempts[result.best]
    save_picture(folder / "best.png", best.generation)
    sheet(result).save(folder / "sheet.png")
    partial = folder / "result.json.partial"
    partial.write_text(json.dumps(to_record(result), indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / "result.json")


def sheet(result: Result) -> Image.Image:
    """The original beside the chosen picture, captioned; one picture where they are the same."""
    chosen: Sequence[Attempt] = (result.attempts[0],)
    if result.best:
        chosen = (result.attempts[0], result.attempts[result.best])
    text_height = 84
    title, body = ImageFont.load_default(18), ImageFont.load_default(15)
    heading = f"“{result.request.prompt}”"
    width = _MARGIN + max(len(chosen) * (_TILE + _MARGIN), ceil(title.getlength(heading)) + _MARGIN)
    canvas = Image.new("RGB", (width, _TILE + text_height + 2 * _MARGIN + 28), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, _MARGIN - 4), heading, fill="black", font=title)
    for i, attempt in enumerate(chosen):
        left, top = _MARGIN + i * (_TILE + _MARGIN), _MARGIN + 28
        picture = attempt.generation.image.convert("RGB")
        canvas.paste(picture.resize((_TILE, _TILE), Image.Resampling.LANCZOS), (left, top))
        color, text = _words(attempt)
        draw.multiline_text((left, top + _TILE + 8), _wrap(text, 42), fill=color, font=body)
    return canvas


def _words(attempt: Attempt) -> tuple[str, str]:
    accepted = attempt.verdict.accepted
    mark = {True: "accepted", False: "not accepted", None: "unscored"}[accepted]
    color = {True: "#00695c", False: "#b23c00", None: "#555555"}[accepted]
    failed = [c.requirement.text for c in attempt.verdict.checks if c.passed is False]
    if attempt.ranked:
        return color, f"{mark}; negatives: {abridged(attempt.generation.negatives)}"
    return color, f"original, {mark}" + (f"; failed: {failed[0]}" if failed else "")


def _wrap(text: str, columns: int) -> str:
    from textwrap import fill

    return fill(text, columns, max_lines=4, placeholder=" …")

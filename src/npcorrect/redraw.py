"""Pictures drawn again from their record: the same bits on the same versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from npcorrect.diffusion.base import Glance, ImageModel, Watch
from npcorrect.errors import SettingsError
from npcorrect.files import RECORD, open_picture, picture_texts, read_json
from npcorrect.loop import begins_alike
from npcorrect.plan import batches, check_request
from npcorrect.provenance import Provenance
from npcorrect.records import Drawing, Generation, Request
from npcorrect.result import (
    SCHEMA_VERSION,
    adapter,
    damaged,
    file_name,
    read_drawing,
    read_record,
    read_request,
    record_path,
)

Answers = tuple[tuple[str | None, bool], ...]


@dataclass(frozen=True)
class Drawn:
    """How one picture was drawn, and what its looks said.

    ``given`` pictures existed before; a model drew them where they have ``evaluations``.
    """

    drawing: Drawing
    answers: Answers
    given: bool
    evaluations: int


@dataclass(frozen=True)
class Recipe:
    """What a record says of how pictures were made, and where they are.

    ``wanted`` is the place of the one picture whose record it is; None where all are wanted.
    """

    place: Path
    made_with: Provenance
    batch: int
    pictures: tuple[Drawn, ...]
    wanted: int | None = None

    def kept(self, index: int) -> Image | None:
        """The picture as it was drawn before, where it is still there.

        Raises:
            SettingsError: it is damaged.
        """
        alone = self.wanted is not None
        path = self.place if alone else self.place.parent / file_name(index)
        return open_picture(path) if path.is_file() else None

    @property
    def begins(self) -> bool:
        """Whether there are redrawings, and they begin with the original."""
        return any(one.drawing.restart_step for one in self.pictures[1:])

    def check(self) -> None:
        """Refuse what its record alone does not tell how to draw.

        Raises:
            SettingsError: nothing of it was drawn, or it begins with what is not there any more.
        """
        first, last = self.pictures[0], self.pictures[-1]
        if not first.given:
            return
        if self.wanted == 0 or first is last:
            raise SettingsError(
                f"The picture of {str(self.place)!r} was not drawn: it existed before; give a "
                "record with redrawings."
            )
        if not self.begins:
            return
        if first.evaluations and begins_alike(first.drawing, last.drawing):
            raise SettingsError(
                f"{str(self.place)!r} begins with the latents of an earlier correction's picture, "
                "which no record keeps; draw that one again."
            )
        if self.wanted is not None or self.kept(0) is None:
            raise SettingsError(
                f"{str(self.place)!r} begins with a picture that existed before; give the folder "
                "that has it as original.png."
            )


def read_recipe(place: Path) -> Recipe:
    """The recipe in a ``result.json``, in a folder that has one, or in a picture.

    Code that a model's repository brings is not run on a record's word.

    Raises:
        SettingsError: there is none, or it is damaged or of another version, or does not tell
            enough; see :meth:`Recipe.check`.
    """
    path = record_path(place)
    record = read_record(path) if path.suffix == ".json" else _picture_record(path)
    try:
        recipe = _recipe(path, record)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from None
    recipe.check()
    return recipe


def redraw(recipe: Recipe, model: ImageModel) -> Iterator[tuple[int, Generation]]:
    """Draw the pictures again, each with its place, in order.

    What looks said is said again at the same steps, so that nobody is asked.

    Raises:
        InputError: the model cannot draw this.
    """
    first, *others = recipe.pictures
    for text in _texts(recipe.pictures):
        model.check_text(text)
    drawn = recipe.wanted in (None, 0) and not first.given
    if drawn or recipe.begins:
        original = _original(recipe, model)
        if drawn:
            yield 0, original
    for batch in batches([one.drawing.negative_prompt for one in others], recipe.batch):
        group = others[batch.start : batch.stop]
        places = range(batch.start + 1, batch.stop + 1)
        if recipe.wanted is not None and recipe.wanted not in places:
            continue
        origin = original.origin if recipe.begins else None
        drawings = [replace(one.drawing, origin=origin) for one in group]
        generations = model.draw(drawings, _replay(group))
        for place, generation in zip(places, generations, strict=True):
            if recipe.wanted in (None, place):
                yield place, generation


def _replay(pictures: Sequence[Drawn]) -> Watch:
    """A watch whose looks say what the looks at the same pictures said before."""
    answers = [iter(one.answers) for one in pictures]

    def look(first: int, images: Sequence[Image], negatives: Sequence[str | None]) -> list[Glance]:
        said = enumerate(negatives, first)
        return [Glance(*next(answers[place], (negative, False))) for place, negative in said]

    return Watch(look=look)


def _original(recipe: Recipe, model: ImageModel) -> Generation:
    """The original, drawn again, or as it was given."""
    first, last = recipe.pictures[0], recipe.pictures[-1]
    picture = recipe.kept(0) if first.given else None
    if picture is None:
        return model.draw([first.drawing])[0]
    origin = model.origin(picture, last.drawing)
    return Generation(
        image=picture, drawing=first.drawing, evaluations=0, seconds=0.0, origin=origin
    )


def _picture_record(path: Path) -> Mapping[str, Any]:
    text = picture_texts(path).get(RECORD)
    if text is None:
        raise SettingsError(
            f"The picture {str(path)!r} has no record of npc correct; give one that has, or a "
            "result.json."
        )
    try:
        record: Mapping[str, Any] = read_json(text)
        if record["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has version {record['schema_version']}, not {SCHEMA_VERSION}")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from None
    return record


def _recipe(path: Path, record: Mapping[str, Any]) -> Recipe:
    request, made_with, _ = read_request(record)
    pictures = tuple(_drawn(attempt) for attempt in record["attempts"])
    wanted = record.get("picture")
    if made_with is None or not pictures:
        raise ValueError("it does not say how its pictures were made")
    if wanted is not None and (type(wanted) is not int or not 0 <= wanted < len(pictures)):
        raise ValueError(f"it is of picture {wanted!r}")
    check_request(request)
    trusted = replace(made_with, load=replace(made_with.load, trust_remote_code=False))
    return Recipe(path, trusted, request.batch, pictures, wanted)


def _drawn(attempt: Mapping[str, Any]) -> Drawn:
    written = attempt["generation"]
    drawing = read_drawing(written)
    check_request(
        Request(
            drawing.prompt,
            seed=drawing.seed,
            steps=drawing.num_inference_steps,
            scale=drawing.true_cfg_scale,
            negative_scale=drawing.negative_scale,
            rule=drawing.rule,
            height=drawing.height,
            width=drawing.width,
            rewinds=drawing.max_rewinds,
            negative_prompt=drawing.standing_negative,
        )
    )
    answers = adapter(Answers).validate_python(written["answers"])
    evaluations = adapter(int).validate_python(written["evaluations"])
    return Drawn(drawing, answers, attempt["cost"]["images"] == 0, evaluations)


def _texts(pictures: Sequence[Drawn]) -> dict[str, None]:
    """Every text that the model has to read, each once."""
    texts = (
        text
        for one, drawing in ((one, one.drawing) for one in pictures)
        for text in (
            drawing.prompt,
            drawing.standing_negative,
            drawing.branch_text,
            *(answer for answer, _ in one.answers),
        )
    )
    return dict.fromkeys(text for text in texts if text)

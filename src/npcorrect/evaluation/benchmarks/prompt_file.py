"""A benchmark of the user's own prompts: a TXT, CSV or JSONL file.

TXT has a prompt on each line. Rows of CSV and objects of JSONL have ``prompt``, and may have ``id``
(what its pictures are called), ``tag``, ``include`` (as GenEval++ has it) and ``questions`` (pairs
of a question and *yes* or *no*; a question alone means *yes*). In CSV, the last two are JSON. A
picture is right or wrong: where there are questions, when all are answered as they should be; else
when the judge finds that everything asked for is there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from npcorrect.errors import SettingsError
from npcorrect.evaluation.benchmarks import judgement, official
from npcorrect.evaluation.benchmarks.base import (
    SEED_STEP,
    Figure,
    Judge,
    Judged,
    Sample,
    Score,
    by_tag,
    figure,
)
from npcorrect.evaluation.benchmarks.inclusion import checklist_text, requirements
from npcorrect.evaluation.benchmarks.judge import VLMJudge
from npcorrect.evaluation.benchmarks.questions import Asked, requirement, share_right, yes_or_no
from npcorrect.records import Checklist
from npcorrect.vlm.base import VLM, Question, Reply

NAME = r"^\w[\w .+=@-]*$"
"""What a prompt may be called: it names files."""
MAX_BYTES = 2**26


class _Item(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: str = Field(alias="class", min_length=1)
    count: int = Field(1, ge=1, le=1000)
    color: str = ""
    size: str = ""
    region: str = ""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    prompt: str = Field(min_length=1, max_length=20_000)
    id: str = Field("", pattern=rf"^$|{NAME}", max_length=100)
    tag: str = Field("", max_length=100)
    include: list[_Item] = []
    questions: list[str | tuple[str, str]] = []


@dataclass(frozen=True)
class PromptFile:
    """A benchmark of the user's own prompts, read from a file."""

    path: Path
    scale: float = 1.0
    upstream_judge: str = "any model that sees"
    repeats: int = 1
    grid: int = 1

    @property
    def name(self) -> str:
        """The benchmark as the report calls it: the file's own name without its folder."""
        return self.path.name

    def samples(self) -> tuple[Sample, ...]:
        """One sample for each prompt, in the order of the file.

        Raises:
            SettingsError: the file cannot be read, or one of its rows cannot be used.
        """
        return self._samples

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        rows = [_row(self.path, n, row) for n, row in enumerate(_rows(self.path), 1)]
        if not rows:
            raise SettingsError(f"{str(self.path)!r} has no prompt.")
        names = [row.id or str(n) for n, row in enumerate(rows, 1)]
        (common, times), *_ = Counter(names).most_common(1)
        if times > 1:
            raise SettingsError(f"{str(self.path)!r} has the id {common!r} more than once.")
        return tuple(
            Sample(n, row.tag or "all", row.prompt, SEED_STEP * (n - 1), facts=_facts(name, row))
            for n, (name, row) in enumerate(zip(names, rows, strict=True), 1)
        )

    def checksum(self) -> str:
        """The SHA-256 of the file's text, by which a continued run knows it again."""
        return hashlib.sha256(_read(self.path).encode()).hexdigest()

    def checklist(self, sample: Sample) -> Checklist:
        """The prompt's items and questions as requirements.

        Raises:
            SettingsError: it has neither.
        """
        claims = [*requirements(sample.facts)]
        claims += [replace(requirement(one), id=f"q{one.id}") for one in sample.facts["questions"]]
        if not claims:
            raise SettingsError(
                f"The prompt {sample.prompt!r} has neither 'include' nor 'questions', which "
                "npc-oracle is told; leave that method out."
            )
        return Checklist(sample.prompt, tuple(claims))

    def figures(self, judged: Sequence[Judged]) -> tuple[Figure, ...]:
        """The share of right pictures, and the mean of the tags' shares where there are several."""
        share = figure("right", judged)
        tags = {one.tag for one in judged}
        return (share, figure("mean of tags", judged, group=by_tag)) if len(tags) > 1 else (share,)

    def judge(self, vlm: VLM | None) -> Judge:
        """The model, asked what a prompt's row says."""
        assert vlm is not None
        return VLMJudge(self, vlm)

    def questions(self, sample: Sample, image: Image) -> tuple[Question, ...]:
        """The row's questions, or one about the whole."""
        if sample.facts["questions"]:
            return yes_or_no(sample, image)
        checks = checklist_text(sample.facts)
        return (judgement.question(judgement.STRICT, sample.prompt, checks, image),)

    def read(self, sample: Sample, replies: Sequence[Reply]) -> Score:
        """1 where the picture passes, by its own questions where the line has them, else 0."""
        if not sample.facts["questions"]:
            return judgement.read(replies[0].text)
        score = share_right(sample, replies)
        return replace(score, value=float(score.value == 1))

    def picture_names(self, sample: Sample) -> tuple[str, ...]:
        """By the row's id, or its number from 1."""
        return tuple(f"{sample.facts['name']}.{end}" for end in ("png", "jpg", "jpeg", "webp"))


def _facts(name: str, row: _Row) -> dict[str, Any]:
    pairs = [one if isinstance(one, tuple) else (one, "yes") for one in row.questions]
    asked = tuple(
        Asked(n, text, answer.strip().casefold()) for n, (text, answer) in enumerate(pairs, 1)
    )
    include = [item.model_dump(by_alias=True) for item in row.include]
    return {"name": name, "include": include, "questions": asked}


def _row(path: Path, number: int, row: Mapping[str, Any]) -> _Row:
    try:
        made = _Row.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"Row {number} of {str(path)!r} cannot be used: {place}: {first['msg']}."
        ) from None
    for one in made.questions:
        if isinstance(one, tuple) and one[1].strip().casefold() not in ("yes", "no"):
            raise SettingsError(
                f"Row {number} of {str(path)!r} has the answer {one[1]!r}; give yes or no."
            )
    return made


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() not in _FORMATS:
        raise SettingsError(
            f"{str(path)!r} is no file of prompts; give a .txt, .csv or .jsonl file."
        )
    return _FORMATS[path.suffix.lower()](path)


def _txt(path: Path) -> list[dict[str, Any]]:
    lines = (line.strip() for line in _read(path).split("\n"))
    return [{"prompt": line} for line in lines if line]


def _jsonl(path: Path) -> list[dict[str, Any]]:
    adapter = TypeAdapter(dict[str, Any])
    rows = []
    for number, line in enumerate(_read(path).split("\n"), 1):
        if line.strip():
            try:
                rows.append(adapter.validate_json(line))
            except ValidationError:
                raise SettingsError(f"Line {number} of {str(path)!r} is no JSON object.") from None
    return rows


def _csv(path: Path) -> list[dict[str, Any]]:
    _read(path)
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(official.read_csv(path, ("prompt",)), 1):
        made: dict[str, Any] = {name: text for name, text in row.items() if text}
        for name in {"include", "questions"} & made.keys():
            try:
                made[name] = json.loads(made[name])
            except (ValueError, RecursionError):
                raise SettingsError(
                    f"Row {number} of {str(path)!r} has a {name!r} that is no JSON."
                ) from None
        rows.append(made)
    return rows


_FORMATS: Mapping[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".txt": _txt,
    ".csv": _csv,
    ".jsonl": _jsonl,
}


def _read(path: Path) -> str:
    """The text of a regular file of bounded size.

    Raises:
        SettingsError: it is none, or is no UTF-8.
    """
    try:
        if not path.is_file():
            raise SettingsError(f"{str(path)!r} is no file.")
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{str(path)!r} has more than {MAX_BYTES >> 20} MiB.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read as UTF-8 text ({error}).") from None

"""Comparing negatives on the tiny model: conditions, tables, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from npcorrect.analysis import measures, plots, tables
from npcorrect.analysis.compare import (
    AttentionSample,
    Condition,
    Terms,
    compare,
    conditions,
    terms_of,
)
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.errors import SettingsError
from npcorrect.mini.checklist import requirements
from npcorrect.mini.family import FAMILY
from npcorrect.mini.grammar import parse
from npcorrect.records import Checklist, Request
from tests.diffusion.shallow import shallow

STEPS, SEEDS = 3, (4, 5, 6)
PROMPT = "three red apples and one blue cup"
CHECKLIST = Checklist(PROMPT, requirements(parse("three red apples")))
NEGATIVES = ("", "four apples", "two dogs", "four apples and one banana")


@pytest.fixture(scope="module")
def model() -> PipelineModel:
    return PipelineModel("tiny", shallow(), FAMILY)


@pytest.fixture(scope="module")
def terms(model: PipelineModel) -> Terms:
    return terms_of(model, CHECKLIST)


@pytest.fixture(scope="module")
def samples(model: PipelineModel, terms: Terms) -> Sequence[AttentionSample]:
    request = Request(PROMPT, steps=STEPS, negative=2, batch=2)
    under = conditions(CHECKLIST, NEGATIVES[:2])
    return tuple(compare(model, request, SEEDS, terms, under))


def test_terms_come_from_the_requirements_or_from_the_user(
    model: PipelineModel, terms: Terms
) -> None:
    assert tuple(terms.places) == ("three", "red", "apples")
    assert terms.words == measures.Words((0, 1, 2, 3, 4), (0, 1, 2))
    chosen = terms_of(model, CHECKLIST, ["red apples", "three", "three"])
    assert chosen.places == {"red apples": (1, 2), "three": (0,)}
    with pytest.raises(SettingsError, match="'bananas'"):
        terms_of(model, CHECKLIST, ["bananas"])
    with pytest.raises(SettingsError, match="--terms"):
        terms_of(model, Checklist(PROMPT, ()))


def test_roles_are_worked_out_and_no_negative_comes_first() -> None:
    found = conditions(CHECKLIST, (*NEGATIVES, NEGATIVES[0]))
    assert [condition.role for condition in found] == [
        "none", "empty", "targeted", "untargeted", "combined",
    ]  # fmt: skip
    assert [condition.negative for condition in found] == [None, *NEGATIVES]
    assert len({condition.label for condition in found}) == len(found)


def test_every_seed_is_drawn_under_every_condition(
    samples: Sequence[AttentionSample], terms: Terms
) -> None:
    assert [sample.generation.drawing.seed for sample in samples] == [*SEEDS] * 3
    assert [sample.condition.role for sample in samples[::3]] == ["none", "empty", "targeted"]
    for sample in samples:
        assert sample.generation.steering == ()
        assert sample.attention.steps == tuple(range(STEPS))
        assert sample.attention.terms == tuple(terms.places)
    first, same = samples[0].attention.text_SBT[0], samples[3].attention.text_SBT[0]
    torch.testing.assert_close(first, same)


def test_the_table_of_scores_holds_what_the_measures_say(
    samples: Sequence[AttentionSample], terms: Terms
) -> None:
    rows = tables.scores(samples, terms).to_pylist()
    blocks = len(samples[0].attention.blocks)
    assert len(rows) == len(samples) * (blocks + 1) * STEPS
    row = rows[1]
    assert (row["role"], row["negative"], row["seed"], row["block"], row["step"]) == (
        "none", None, 4, "all", 1,
    )  # fmt: skip
    text_T = samples[0].attention.text_SBT[1].mean(0)
    assert math.isclose(row["fraction"], measures.fraction(text_T, terms.words), rel_tol=1e-6)
    total = row["salient"] + row["background"] + row["rest"]
    assert math.isclose(total, 1, rel_tol=1e-6)


def test_tables_of_terms_and_maps_agree(samples: Sequence[AttentionSample], terms: Terms) -> None:
    masses = tables.term_masses(samples[:1], terms).to_pylist()
    cells = tables.maps(samples[:1], terms, [0, 2]).to_pylist()
    assert len(masses) == STEPS * len(terms.places)
    assert len(cells) == 2 * 9 * len(terms.places)
    mine = [c["probability"] for c in cells if c["term"] == "apples" and c["step"] == 2]
    (mass,) = (m["probability"] for m in masses if m["term"] == "apples" and m["step"] == 2)
    assert math.isclose(sum(mine) / 9, mass, rel_tol=1e-5)


def test_both_files_hold_the_same_table(
    samples: Sequence[AttentionSample], terms: Terms, tmp_path: Path
) -> None:
    table = tables.scores(samples, terms)
    tables.write(table, tmp_path / "scores")
    assert pyarrow.parquet.read_table(tmp_path / "scores.parquet").equals(table)
    lines = pyarrow.csv.read_csv(tmp_path / "scores.csv")
    assert lines.column_names == table.column_names
    assert lines.num_rows == table.num_rows


def test_pictures_say_what_they_show(
    samples: Sequence[AttentionSample], terms: Terms, tmp_path: Path
) -> None:
    figures = {
        "series": plots.series_figure(samples, terms, PROMPT),
        "blocks": plots.blocks_figure(samples, terms, PROMPT),
        "maps": plots.maps_figure(samples[0], terms, plots.chosen_steps(STEPS)),
    }
    for name, figure in figures.items():
        plots.save(figure, tmp_path / name)
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 300
        assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")
    series = figures["series"]
    assert [axes.get_xlabel() for axes in series.axes] == ["step"] * 3
    labels = [text.get_text() for text in series.legends[0].get_texts()]
    assert labels == ["no negative", "empty negative", "four apples (targeted)"]
    change = series.axes[2].lines[2].get_ydata()
    fractions = [
        torch.stack([measures.fraction(s.attention.text_SBT.mean(1), terms.words) for s in group])
        for group in (samples[:3], samples[6:])
    ]
    expected = (fractions[1] - fractions[0]).mean(0)
    torch.testing.assert_close(torch.tensor(change).float(), expected, atol=1e-6, rtol=1e-4)
    rows = len(terms.places)
    assert len(figures["maps"].axes) == rows * (STEPS + 1) + rows


def test_nothing_of_a_picture_is_cut_off_at_its_edge(
    samples: Sequence[AttentionSample], terms: Terms, tmp_path: Path
) -> None:
    figure = plots.series_figure(samples, terms, "two blue bananas and three red apples " * 6)
    plots.save(figure, tmp_path / "series")
    with Image.open(tmp_path / "series.png") as image:
        edges = np.asarray(image.convert("L"))
        assert image.width > 160 * figure.get_size_inches()[0]
    assert (edges[:, [0, -1]] == 255).all()


def test_one_seed_and_one_condition_are_enough(
    samples: Sequence[AttentionSample], terms: Terms
) -> None:
    for figure in (plots.series_figure, plots.blocks_figure):
        assert figure(samples[:1], terms, PROMPT).axes


def test_where_every_word_is_salient_the_score_is_shown(samples: Sequence[AttentionSample]) -> None:
    terms = Terms({"all": (0, 1, 2)}, (0, 1, 2))
    series = plots.series_figure(samples, terms, PROMPT)
    assert [axes.get_title() for axes in series.axes] == [
        "score of salient words", "change of the score\nagainst no negative",
    ]  # fmt: skip
    expected = measures.salient_score(samples[0].attention.text_SBT.mean(1), terms.words)
    first = plots.series_figure(samples[:1], terms, PROMPT).axes[0].lines[0].get_ydata()
    torch.testing.assert_close(torch.tensor(first).float(), expected)
    assert plots.blocks_figure(samples, terms, PROMPT).axes


def test_steps_to_show_go_from_the_first_to_the_last() -> None:
    assert plots.chosen_steps(24) == (0, 6, 12, 17, 23)
    assert plots.chosen_steps(1) == (0,)
    assert plots.chosen_steps(3) == (0, 1, 2)


def test_a_label_tells_conditions_apart() -> None:
    assert Condition("four apples", "targeted").label == "four apples (targeted)"

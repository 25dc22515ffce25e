"""Everything that is drawn, as tables: one row an observation, written as CSV and Parquet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from npcorrect.analysis import measures
from npcorrect.analysis.compare import AttentionSample, Terms

ALL_BLOCKS = "all"
"""The block's name in rows that are means over all blocks."""


def scores(samples: Sequence[AttentionSample], terms: Terms) -> pa.Table:
    """The measures at each step, of each block and over all.

    ``rest`` is the attention to all keys but the prompt's words. Columns that begin with
    ``released`` follow the released definition; see :mod:`npcorrect.analysis.measures`.
    """
    return _table(_scores(samples, terms.words))


def term_masses(samples: Sequence[AttentionSample], terms: Terms) -> pa.Table:
    """Each term's attention probability at each step, over all blocks."""
    rows = (
        {**_whose(sample), "step": step, "term": term, "probability": float(value)}
        for sample in samples
        for term, places in terms.places.items()
        for step, value in zip(
            sample.attention.steps,
            measures.mass(measures.over_blocks(sample.attention.text_SBT), places),
            strict=True,
        )
    )
    return _table(rows)


def maps(samples: Sequence[AttentionSample], terms: Terms, steps: Sequence[int]) -> pa.Table:
    """Each term's attention probability for each image token at some steps."""
    return _table(_maps(samples, terms, steps))


def write(table: pa.Table, stem: Path) -> None:
    """Write ``stem.csv`` and ``stem.parquet``."""
    pyarrow.csv.write_csv(table, stem.with_suffix(".csv"))
    pyarrow.parquet.write_table(table, stem.with_suffix(".parquet"))


def _scores(samples: Iterable[AttentionSample], words: measures.Words) -> Iterator[dict[str, Any]]:
    for sample in samples:
        attention = sample.attention
        all_keys = measures.over_blocks(attention.text_SBT)
        text_keys = measures.released_text(attention.among_SBT, attention.blocks)
        everything = measures.released_words(words, text_keys.shape[-1])
        blocks = (ALL_BLOCKS, *attention.blocks)
        ours = (all_keys, *attention.text_SBT.unbind(1))
        released = (text_keys, *attention.among_SBT.unbind(1))
        for block, text_ST, among_ST in zip(blocks, ours, released, strict=True):
            columns = {
                "salient": measures.salient_score(text_ST, words),
                "background": measures.background_score(text_ST, words),
                "rest": 1 - measures.mass(text_ST, words.prompt),
                "ratio": measures.ratio(text_ST, words),
                "fraction": measures.fraction(text_ST, words),
                "entropy": measures.entropy(text_ST, words.prompt),
                "released_ratio": measures.ratio(among_ST, everything),
                "released_fraction": measures.fraction(among_ST, everything),
            }
            for row, step in enumerate(attention.steps):
                values = {name: float(series_S[row]) for name, series_S in columns.items()}
                yield {**_whose(sample), "block": block, "step": step, **values}


def _maps(
    samples: Iterable[AttentionSample], terms: Terms, steps: Sequence[int]
) -> Iterator[dict[str, Any]]:
    for sample in samples:
        width, height = sample.generation.image.size
        maps_SWYX = sample.attention.maps(height, width)
        for step in steps:
            for term, map_YX in zip(terms.places, maps_SWYX[step], strict=True):
                for row, line in enumerate(map_YX.tolist()):
                    for column, value in enumerate(line):
                        place = {"term": term, "row": row, "column": column}
                        yield {**_whose(sample), "step": step, **place, "probability": value}


def _whose(sample: AttentionSample) -> dict[str, Any]:
    condition = sample.condition
    return {
        "role": condition.role,
        "negative": condition.negative,
        "seed": sample.generation.drawing.seed,
    }


def _table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    columns: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)
    return pa.table(columns)

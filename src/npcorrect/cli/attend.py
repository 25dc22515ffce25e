"""``npc attend``: where the model looks while it draws."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npcorrect.cli.app import Prompt, app, path_option, reporting_errors
from npcorrect.cli.options import Only, takes_settings
from npcorrect.settings import DrawSettings, LoadSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from npcorrect.analysis.compare import AttentionSample, Condition, Terms
    from npcorrect.records import Checklist

OF_A_PICTURE = (
    "seed", "steps", "scale", "size", "height", "width", "rule", "negative_scale", "negative",
    "batch",
)  # fmt: skip
"""The options of a picture that is drawn once, without looks."""


@app.command()
@reporting_errors
@takes_settings
def attend(
    prompt: Prompt,
    draw: Annotated[DrawSettings, Only(OF_A_PICTURE)],
    load: LoadSettings,
    negatives: Annotated[
        list[str] | None,
        typer.Option("--negative", help="A negative prompt to draw with; give it several times."),
    ] = None,
    terms: Annotated[
        str | None,
        typer.Option(help="Words of PROMPT, with commas between; by default those it requires."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted from --seed.")] = 4,
    out: Annotated[Path, path_option(help="Folder for the pictures and tables.")] = Path("attend"),
) -> None:
    """Show which words of PROMPT the picture attends to, without a negative and with each.

    Writes into --out: series (the paper's figure: attention to the salient words, against the
    step), blocks (by block and step), maps-* (each word over the picture), as PNG and SVG, all
    that is drawn in them as CSV and Parquet, and the pictures.

    Example: npc attend "three red apples" --negative "" --negative "four apples"
    --negative "three green apples" --terms three,apples --out attend/
    """
    from npcorrect.extras import require
    from npcorrect.files import prepare, save_picture
    from npcorrect.plan import plan
    from npcorrect.records import Request
    from npcorrect.session import family_of, load_model

    require("pyarrow", "npc attend")
    from npcorrect.analysis.compare import compare, conditions, terms_of

    request = Request(prompt, **vars(draw))
    words = [word.strip() for word in (terms or "").split(",") if word.strip()]
    family = family_of(load)
    plan(replace(request, looks=0, rewinds=0, strength=1.0), family, family.defaults)
    checklist = _checklist(prompt, words, load)
    drawer = load_model(load)
    chosen = terms_of(drawer, checklist, words)
    under = conditions(checklist, negatives or [])
    draws = len(under) * -(-seeds // draw.batch)
    numbers = range(draw.seed, draw.seed + seeds)
    samples = []
    with _progress(draws) as on_step:
        drawn = compare(drawer, request, numbers, chosen, under, on_step)
        prepare(out)
        for sample in drawn:
            number, generation = under.index(sample.condition), sample.generation
            seed = generation.drawing.seed
            save_picture(out / f"picture-{number}-seed-{seed}.png", generation)
            samples.append(sample)
    _write(out, prompt, samples, chosen)
    _print(prompt, samples, chosen, out)


def _checklist(prompt: str, words: list[str], load: LoadSettings) -> Checklist:
    """What the prompt requires, by the grammars; where they cannot read it, that its terms exist.

    Raises:
        SettingsError: nothing says which words matter.
    """
    from npcorrect.errors import PromptError, SettingsError
    from npcorrect.records import Checklist, Requirement
    from npcorrect.session import read_requirements

    try:
        return read_requirements(prompt, load)
    except PromptError:
        if not words:
            raise SettingsError(
                f"The requirements of {prompt!r} cannot be read by rule; say with --terms which "
                "of its words to look for."
            ) from None
    claims = (Requirement(f"r{n}", "object", word, word, word) for n, word in enumerate(words, 1))
    return Checklist(prompt, tuple(claims))


@contextmanager
def _progress(draws: int) -> Generator[Callable[[Condition], Callable[[int, int], None]]]:
    """A bar over all draws: makes the listener for the steps of one condition's."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    from npcorrect.cli.console import progress_bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task("drawing", total=None)

        def on_step(condition: Condition) -> Callable[[int, int], None]:
            label = f"drawing with {condition.label}"
            return lambda _, total: bar.update(
                task, advance=1, total=draws * total, description=label
            )

        yield on_step


def _write(out: Path, prompt: str, samples: list[AttentionSample], terms: Terms) -> None:
    """All files; only the first seed's maps are drawn, but the table has every seed's."""
    from npcorrect.analysis import plots, tables

    steps = plots.chosen_steps(len(samples[0].attention.steps))
    plots.save(plots.series_figure(samples, terms, prompt), out / "series")
    plots.save(plots.blocks_figure(samples, terms, prompt), out / "blocks")
    of_one_seed = [
        s for s in samples if s.generation.drawing.seed == samples[0].generation.drawing.seed
    ]
    for number, sample in enumerate(of_one_seed):
        plots.save(plots.maps_figure(sample, terms, steps), out / f"maps-{number}")
    tables.write(tables.scores(samples, terms), out / "scores")
    tables.write(tables.term_masses(samples, terms), out / "terms")
    tables.write(tables.maps(samples, terms, steps), out / "maps")


def _print(prompt: str, samples: list[AttentionSample], terms: Terms, out: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from npcorrect.analysis import measures
    from npcorrect.cli.console import PlainConsole

    measured, measure = measures.comparable(terms.words)
    by: dict[Condition, list[float]] = {}
    for sample in samples:
        text_ST = measures.over_blocks(sample.attention.text_SBT)
        tail = measures.tail_mean(measure(text_ST, terms.words))
        by.setdefault(sample.condition, []).append(float(tail))
    table = Table(title=Text(f"{prompt}: attention to {', '.join(terms.places)}"))
    for name in ("negative", "role", f"{measured}, last steps", "change", "seeds that rise"):
        table.add_column(name)
    reference = next(iter(by.values()))
    for condition, tails in by.items():
        changes = [tail - base for tail, base in zip(tails, reference, strict=True)]
        rises = f"{sum(change > 0 for change in changes)} of {len(changes)}"
        none = condition.role == "none"
        table.add_row(
            "" if condition.negative is None else f"“{condition.negative}”",
            condition.role,
            f"{sum(tails) / len(tails):.4f}",
            "" if none else f"{sum(changes) / len(changes):+.4f}",
            "" if none else rises,
        )
    console = PlainConsole()
    console.print(table)
    console.print(
        f"series.png, blocks.png, maps-0.png and so on, and tables, are in {out}/", soft_wrap=True
    )

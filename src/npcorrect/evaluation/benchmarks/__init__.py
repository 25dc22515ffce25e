"""The benchmarks: a file and a row each; ``base`` says what one is.

A benchmark is made without its official files: they are read when its samples are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from npcorrect.errors import SettingsError
from npcorrect.evaluation import plugins
from npcorrect.evaluation.benchmarks.base import Benchmark
from npcorrect.evaluation.benchmarks.dpg import DPGBench
from npcorrect.evaluation.benchmarks.dsg import DSG1k
from npcorrect.evaluation.benchmarks.geneval import GenEval
from npcorrect.evaluation.benchmarks.geneval2 import GenEval2
from npcorrect.evaluation.benchmarks.geneval_pp import GenEvalPP
from npcorrect.evaluation.benchmarks.imagine_bench import ImagineBench
from npcorrect.evaluation.benchmarks.neggenbench import NegGenBench
from npcorrect.evaluation.benchmarks.oneig import OneIGAlignment
from npcorrect.evaluation.benchmarks.prompt_file import PromptFile
from npcorrect.evaluation.benchmarks.tiif import TIIFNegation, TIIFNegationMini
from npcorrect.evaluation.benchmarks.wording import Wording


def _mini(folder: Path | None) -> Benchmark:
    from npcorrect.evaluation.benchmarks.mini_bench import MiniBench

    return MiniBench()


def _mini_tuning(folder: Path | None) -> Benchmark:
    from npcorrect.evaluation.benchmarks.mini_bench import MiniBench

    return MiniBench(tuning=True)


BENCHMARKS: Mapping[str, Callable[[Path | None], Benchmark]] = {
    "mini": _mini,
    "mini-tuning": _mini_tuning,
    "geneval++": GenEvalPP,
    "imagine": ImagineBench,
    "geneval2": GenEval2,
    "geneval": GenEval,
    "dpg": DPGBench,
    "dsg-1k": DSG1k,
    "oneig": OneIGAlignment,
    "neggenbench": NegGenBench,
    "tiif-negation": TIIFNegation,
    "tiif-negation-mini": TIIFNegationMini,
}
"""The benchmarks by name, from a folder with their official files."""
UPSTREAM_WORDING: Mapping[str, Callable[[Path | None, Wording], Benchmark]] = {
    "geneval++": GenEvalPP,
    "imagine": ImagineBench,
}
"""Those whose judge can be asked in the words of the upstream script."""
SUFFIXES = (".txt", ".csv", ".jsonl")
"""A name that ends so is that of a file of prompts."""


def find(name: str, folder: Path | None = None, wording: Wording = "default") -> Benchmark:
    """The benchmark with this name, in this file of prompts, or in this Python file.

    Raises:
        SettingsError: there is none, or it has no such wording.
    """
    if wording == "upstream":
        if name not in UPSTREAM_WORDING:
            raise SettingsError(
                f"Upstream's wording is known for {', '.join(UPSTREAM_WORDING)}, not for {name!r}; "
                "leave --wording out."
            )
        return UPSTREAM_WORDING[name](folder, wording)
    if name in BENCHMARKS:
        return BENCHMARKS[name](folder)
    if Path(name).suffix.lower() in SUFFIXES:
        return PromptFile(Path(name))
    made = plugins.load(name, "npcorrect.benchmarks")
    if made is None:
        raise SettingsError(
            f"The benchmark {name!r} is unknown; use {', '.join(BENCHMARKS)}, or a file of prompts "
            "(.txt, .csv or .jsonl)."
        )
    benchmark: Benchmark = plugins.called(name, made, folder)
    return benchmark

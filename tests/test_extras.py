"""The core works without the extras, and what is missing is said in one sentence."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from npcorrect.errors import SettingsError
from npcorrect.extras import require, requiring

ONLY = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {"numpy", "PIL", "pydantic", "pydantic_core", "annotated_types", "typing_extensions",
           "typing_inspection", "platformdirs", "npcorrect"}

class Only(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = top in ALLOWED or top in sys.stdlib_module_names
        if not known and "site-packages" in where(top):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)

def where(top):
    from importlib.machinery import PathFinder
    spec = PathFinder.find_spec(top)
    return str(spec.origin or spec.submodule_search_locations) if spec else ""

sys.meta_path.insert(0, Only())

import importlib.util
real = importlib.util.find_spec

def find_spec(name, package=None):
    try:
        return real(name, package)
    except ModuleNotFoundError:
        return None

importlib.util.find_spec = find_spec
"""


def alone(code: str) -> subprocess.CompletedProcess[str]:
    """Run code where only the core's own requirements can be imported."""
    return subprocess.run(
        [sys.executable, "-c", ONLY + code], capture_output=True, text=True, check=False
    )


def test_the_core_corrects_without_any_extra(tmp_path: Path) -> None:
    done = alone(
        f"""
from npcorrect import Request, Session, SessionSettings, load_result
from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.vlm.base import Reply
from npcorrect.vlm.build import played_by
from npcorrect.vlm.fake import FakeVLM
vlm = FakeVLM([Reply("yes")], repeat=True)
session = Session(FakeImageModel(), played_by(vlm))
correction = session.correct(Request("two red apples", ranker="source"))
list(correction)
correction.result.save({str(tmp_path)!r})
print(load_result({str(tmp_path)!r}).accepted)
"""
    )
    assert done.stdout.strip() == "True", done.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import runpy; sys.argv = ['npc']; runpy.run_module('npcorrect', run_name='__main__')",
            "npc: the command needs the package 'typer'; install it with: "
            "pip install 'npcorrect[app]'",
        ),
        (
            "import npcorrect\ntry: npcorrect.correct_prompt('two red bananas')\n"
            "except npcorrect.InputError as error: sys.exit(str(error))",
            "needs the package 'torch', which is not installed; install it with: "
            "pip install 'npcorrect[draw]'",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(code: str, said: str) -> None:
    done = alone(code)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_there_is_not_refused() -> None:
    require("numpy", "draw", "Drawing")
    with requiring("draw", "Drawing"):
        assert import_module("numpy").__name__ == "numpy"


def test_a_missing_module_of_our_own_is_a_fault() -> None:
    with pytest.raises(ModuleNotFoundError), requiring("draw", "Drawing"):
        raise ModuleNotFoundError("No module", name="npcorrect.gone")
    with pytest.raises(SettingsError, match=r"Drawing needs the package 'gone'.*npcorrect\[draw\]"):
        require("gone", "draw", "Drawing")

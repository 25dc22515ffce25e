"""The core works without the extras, and what is missing is said in one sentence."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from npcorrect.errors import SettingsError
from npcorrect.extras import EXTRAS, require, requiring
from tests.test_architecture import modules
from tests.vlm.loopback import loopback

ONLY = """
import sys
from importlib.abc import MetaPathFinder

ALLOWED = {"numpy", "PIL", "pydantic", "pydantic_core", "annotated_types", "typing_extensions",
           "typing_inspection", "platformdirs", "httpx2", "httpcore2", "anyio", "idna", "h11",
           "truststore", "sniffio", "certifi", "jsonschema", "jsonschema_specifications",
           "referencing", "rpds", "attr", "attrs", "tenacity", "npcorrect", *MORE}

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


CLI = ("typer", "rich", "shellingham", "markdown_it", "mdurl", "pygments", "filelock", "jinja2",
       "markupsafe", "annotated_doc")  # fmt: skip


def alone(code: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run code where only the core's own requirements, and some more, can be imported."""
    code = f"MORE = {more!r}\n{ONLY}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


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


def test_a_model_and_a_vlm_of_ones_own_need_no_extra() -> None:
    done = alone(
        """
import npcorrect
from npcorrect.diffusion.fake import FakeImageModel
from npcorrect.vlm.base import Reply
from npcorrect.vlm.fake import FakeVLM
vlm = FakeVLM([Reply("yes")], repeat=True)
print(npcorrect.correct_prompt("two red apples", model=FakeImageModel(), vlm=vlm, ranker="source")
      .accepted)
"""
    )
    assert done.stdout.strip() == "True", done.stderr


def test_roles_over_http_need_no_extra() -> None:
    with loopback() as server:
        done = alone(
            f"""
import npcorrect
from PIL import Image
with npcorrect.roles({server.name!r}, model="a/b", cache=False) as roles:
    checklist = roles.checklister.checklist("two red apples")
    print(roles.verifier.verify(Image.new("RGB", (8, 8)), checklist).accepted)
"""
        )
    assert done.stdout.strip() in ("True", "False"), done.stderr
    assert server.asked


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (["rank", "three red apples", "four apples"], "torch", "draw"),
        (["correct", "two red bananas"], "torch", "draw"),
        (["models", "show", "somebody/model"], "huggingface_hub", "draw"),
        (["bench", "run", "mini", "--limit", "1"], "matplotlib", "bench"),
        (["bench", "score", "mini", "--images", "."], "matplotlib", "bench"),
        (["bench", "judge", "run", "--judge", "openai:x"], "matplotlib", "bench"),
        (["bench", "report", "run"], "scipy", "bench"),
        (["serve"], "fastapi", "serve"),
        (["mcp"], "mcp", "mcp"),
        (["attend", "two red bananas"], "pyarrow", "analysis"),
    ],
)
def test_a_command_says_what_it_lacks(
    command: list[str], package: str, extra: str, tmp_path: Path
) -> None:
    code = f"""
import os
os.chdir({str(tmp_path)!r})
sys.argv = ["npc", *{command!r}]
from npcorrect.__main__ import main
main()
"""
    done = alone(code, *CLI)
    assert done.returncode == 2
    assert f"needs the package {package!r}" in " ".join(done.stderr.split())
    assert f"pip install 'npcorrect[{extra}]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


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
        (
            "import npcorrect\ntry: npcorrect.from_pipeline(object())\n"
            "except npcorrect.InputError as error: sys.exit(str(error))",
            "Drawing needs the package 'torch'",
        ),
        (
            "import npcorrect\ntry: npcorrect.correct_prompt('a cup', model='a/b', "
            "vlm='http://localhost:1/v1#x')\n"
            "except npcorrect.InputError as error: sys.exit(str(error))",
            "needs the package 'huggingface_hub'",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(code: str, said: str) -> None:
    done = alone(code)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_there_is_not_refused() -> None:
    require("numpy", "Drawing")
    with requiring("Drawing"):
        assert import_module("numpy").__name__ == "numpy"


@pytest.mark.parametrize("name", ["npcorrect.gone", "gone", None])
def test_a_module_that_no_extra_brings_is_a_fault(name: str | None) -> None:
    with pytest.raises(ModuleNotFoundError), requiring("Drawing"):
        raise ModuleNotFoundError("No module", name=name)


def test_a_part_of_a_missing_package_is_told_as_the_package() -> None:
    said = r"Drawing needs .*'torch'.*npcorrect\[draw\]"
    with pytest.raises(SettingsError, match=said), requiring("Drawing"):
        raise ModuleNotFoundError("No module", name="torch.nn")


DECLARED = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PARTS = {
    "analysis": {"analysis"},
    "batch": {"cli"},
    "cli": {"app"},
    "diffusion": {"draw"},
    "evaluation": {"bench", "draw"},
    "files": {"cli"},
    "mcp": {"mcp"},
    "mini": {"train"},
    "provenance": {"draw"},
    "serve": {"serve"},
    "vlm": {"local"},
    "workers": {"ray"},
}
"""The extras that bring what a part of the package imports; the others import the core's alone."""


def brought(extras: set[str]) -> set[str]:
    """The modules that the core and some extras declare, those of the extras they name included."""
    listed = [*DECLARED["dependencies"]]
    for extra in extras:
        listed += DECLARED["optional-dependencies"][extra]
    names = {re.split(r"[<>=]", one)[0] for one in listed}
    inner = {more for name in names for more in re.findall(r"npcorrect\[(.*)\]", name)}
    modules = {"pillow": "PIL"}
    named = {modules.get(name, name.replace("-", "_")) for name in names}
    return named | (brought({e for one in inner for e in one.split(",")}) if inner else set())


def imported(path: Path) -> set[str]:
    """The packages that a module imports anywhere, but for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = [n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, "npcorrect"}


@pytest.mark.parametrize("part", sorted({module.split(".")[1] for module, _ in modules()}))
def test_what_is_imported_is_declared(part: str) -> None:
    paths = [path for module, path in modules() if module.split(".")[1] == part]
    assert set().union(*map(imported, paths)) <= brought(PARTS.get(part, set()))


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_an_extra_brings_what_the_sentence_says(package: str, extra: str) -> None:
    assert package in brought({extra})

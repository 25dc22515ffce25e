"""Imports point one way, the core stays free of everything heavy, and the public names are kept."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import npcorrect

PACKAGE = Path(npcorrect.__file__).parent
LAYERS = (
    ("errors", "english"),
    ("extras", "text", "lexicon", "paper_words", "prompt_marks", "workers"),
    ("settings", "phrases", "interval"),
    ("records", "provenance"),
    ("asked",),
    ("meaning",),
    ("plan", "files", "fonts", "faults"),
    ("sheet",),
    ("result",),
    ("diffusion",),
    ("proposing", "ranking"),
    ("vlm", "analysis", "card"),
    ("role_calls",),
    ("model_calls",),
    ("loop",),
    ("mini", "remote"),
    ("session",),
    ("api", "output", "prompts"),
    ("batch", "redraw"),
    ("evaluation",),
    ("mcp", "serve"),
    ("cli",),
)
"""Parts of the package; each imports from its own layer and from those before it."""
HEAVY = ("torch", "diffusers", "transformers", "httpx2", "typer", "rich", "npcorrect.mini")
CORE = (
    "npcorrect",
    "npcorrect.plan",
    "npcorrect.session",
    "npcorrect.diffusion.families",
    "npcorrect.diffusion.rules",
    "npcorrect.diffusion.fake",
    "npcorrect.vlm.build",
    "npcorrect.vlm.fake",
    "npcorrect.result",
)


def layer(module: str) -> int:
    """The layer of a module of the package, by its first part."""
    part = module.split(".")[1]
    places = [place for place, parts in enumerate(LAYERS) if part in parts]
    assert places, f"{module} stands in no layer"
    return places[0]


def imports(path: Path) -> Iterator[str]:
    """The package's modules that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "npcorrect":
            yield from (f"npcorrect.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def modules() -> list[tuple[str, Path]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    named = ((path.relative_to(PACKAGE.parent).with_suffix("").parts, path) for path in paths)
    top = ("__init__", "__main__")
    return [(".".join(parts), path) for parts, path in named if parts[1] not in top]


def test_no_import_runs_upward() -> None:
    upward = [
        f"{module} imports {imported}"
        for module, path in modules()
        for imported in imports(path)
        if imported.startswith("npcorrect.") and layer(imported) > layer(module)
    ]
    assert upward == []


def test_every_module_stands_in_a_layer() -> None:
    assert len({layer(module) for module, _ in modules()}) == len(LAYERS)


def test_the_loop_knows_neither_torch_nor_a_client() -> None:
    assert not set(imports(PACKAGE / "loop.py")) & {"torch", "diffusers", "httpx2"}


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there_and_sorted() -> None:
    assert npcorrect.__all__ == sorted(npcorrect.__all__)
    assert set(npcorrect._MODULES) == {*npcorrect.__all__} - {"__version__"}
    for name, module in npcorrect._MODULES.items():
        assert getattr(npcorrect, name).__module__ == module
    with pytest.raises(AttributeError, match="'magic'"):
        npcorrect.magic  # noqa: B018


def test_the_package_imports_nothing_by_itself() -> None:
    code = "import sys, npcorrect; print([m for m in ('numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_public_docstring_is_too_short_to_state_a_contract() -> None:
    nodes = PACKAGE.parents[1] / "comfyui"
    short = [
        f"{path.stem}.{node.name}: {text}"
        for path in sorted((*PACKAGE.rglob("*.py"), *nodes.rglob("*.py")))
        if path.stem != "schemas"  # these are part of the questions to models
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and (text := ast.get_docstring(node))
        and len(text.split()) <= 6
    ]
    assert short == []

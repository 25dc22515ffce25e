"""Settings of all tests."""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from platformdirs import user_cache_path

# No test depends on what the developer has set: a proxy would stand before servers on loopback, a
# key would be sent, a terminal would be narrow or coloured, the Hub would be asked.
OURS = {"NPC_DATA", "NPC_COMFYUI", "NPC_COMFYUI_PYTHON", "PYTHONPATH", "PYTHONHOME"}
THEIRS = re.compile(
    "(NPC|OPENAI|HF|HUGGINGFACE|TRANSFORMERS|DIFFUSERS|TQDM|RAY|TYPER|TTY|CLICOLOR|GIT|LC)_.*"
    "|.*_PROXY|PYTHON.*|CLICOLOR|NO_COLOR|FORCE_COLOR|LANG|LANGUAGE|SSL.*|MPLBACKEND",
    re.IGNORECASE,
)
for name in [name for name in os.environ if THEIRS.fullmatch(name) and name not in OURS]:
    del os.environ[name]
os.environ |= {"COLUMNS": "80", "LINES": "25", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
time.tzset()

# The processes of the tests share the cores, and start the program many times: each has one
# thread, and compiles nothing that another has compiled. Ray's workers do not give way to them.
os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
sys.dont_write_bytecode = False

# No test reads or writes what belongs to the user: neither settings, nor answers that were kept,
# nor models. matplotlib's list of fonts, which takes seconds to make, is the exception.
_MODELS = TemporaryDirectory()
os.environ["HF_HOME"] = _MODELS.name
os.environ.setdefault("MPLCONFIGDIR", str(user_cache_path("matplotlib")))
_NUMBERS = count()

# The same examples in every run, and no deadline: a busy machine is no fault of an example.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


# Importing leaves no garbage worth the time that looking for it takes.
gc.disable()


@pytest.fixture(scope="session")
def users_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what users keep, where there are no settings."""
    folder = tmp_path_factory.mktemp("kept")
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    return folder


@pytest.fixture(autouse=True)
def _answers(users_folder: Path) -> None:
    """Answers are kept for one test: ports, and so the names of servers, come again."""
    os.environ["XDG_CACHE_HOME"] = str(users_folder / str(next(_NUMBERS)))


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    _MODELS.cleanup()


def pytest_collection_finish() -> None:
    """Leave what was imported out of every collection of garbage from here on, and collect less.

    Pipelines and plans make many objects that live; looking through them often frees little.
    pytest attaches itself, for every test, to each logger that does not propagate; torch has 50.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch.") and isinstance(logger, logging.Logger):
            logger.propagate = True
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()

"""Settings of all tests."""

from __future__ import annotations

import gc
import logging
import os
import sys

from hypothesis import settings

# The processes of the tests share the cores, and start the program many times: each has one
# thread, and compiles nothing that another has compiled. Ray's workers do not give way to them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples in every run, and no deadline: a busy machine is no fault of an example.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


# Importing leaves no garbage worth the time that looking for it takes.
gc.disable()


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

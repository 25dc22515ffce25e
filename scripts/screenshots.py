#!/usr/bin/env python
"""Make the pictures of docs/serve.md: the page of ``npc serve`` with the embedded model.

From the repository's root: ``python scripts/screenshots.py``. Needs Chromium and its driver.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.serve.browser import chromium  # noqa: E402

PROMPT, SEED = "a photo of a brown bus, a green truck, and a red skateboard", "0"
EARLIER = (("three red apples and one blue cup", "3"), ("two yellow books", "5"))


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server with an empty folder."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "npcorrect", "serve", "--port", "0", "--out", folder]
        with Popen(command, stdout=PIPE, text=True) as server:
            assert server.stdout
            try:
                yield server.stdout.readline().split()[3].rstrip(";")
            finally:
                server.terminate()


def draw(browser: Chrome, prompt: str, seed: str) -> None:
    """Fill the form and send it."""
    for name, value in (("prompt", prompt), ("seed", seed)):
        field = browser.find_element("name", name)
        field.clear()
        field.send_keys(value)
    browser.find_element("css selector", ".primary").click()


def wait(happens: Callable[[], object]) -> None:
    """Until it does; a correction takes a minute on a slow machine."""
    for _ in range(3000):
        if happens():
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise TimeoutError("the page did not come so far")


def ended(browser: Chrome) -> Callable[[], object]:
    """Whether the job that is shown has ended."""
    return lambda: browser.execute_script("return job.className === 'ended'")


def shoot(address: str) -> None:
    """The page when it is done, and the same on a small dark screen."""
    with chromium(1100, 1180) as browser:
        browser.get(address)
        for prompt, seed in EARLIER:
            draw(browser, prompt, seed)
            wait(ended(browser))
        draw(browser, PROMPT, SEED)
        wait(ended(browser))
        browser.save_screenshot(str(ROOT / "docs" / "serve.png"))
        done = browser.current_url
    with chromium(390, 844, dark=True) as browser:
        browser.get(done)
        wait(ended(browser))
        browser.execute_script("job.scrollIntoView()")
        browser.save_screenshot(str(ROOT / "docs" / "serve-narrow.png"))


if __name__ == "__main__":
    with serving() as address:
        shoot(address)

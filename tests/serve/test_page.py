"""The page in a headless Chromium: clicks, keys, the slider, narrow and dark, reloaded and resumed.

Skipped where there is no Chromium with its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from npcorrect.diffusion.fake import looking
from npcorrect.serve.security import Access
from tests.serve.asking import PROMPT, submit
from tests.serve.browser import chromium, installed, show
from tests.serve.fakes import FakeServer, client_of, listening, redrawing
from tests.timing import until

pytestmark = pytest.mark.skipif(not installed(), reason="needs Chromium and its driver")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Chrome, address: str) -> Iterator[Chrome]:
    show(browser)
    browser.get("about:blank")
    complaints(browser)  # what an earlier test left
    browser.get(address)
    yield browser
    assert complaints(browser) == []


def complaints(browser: Chrome) -> list[str]:
    """Errors in the browser's log, without refusals by the server."""
    entries = browser.get_log("browser")  # type: ignore[no-untyped-call]
    errors = [str(entry["message"]) for entry in entries if entry["level"] == "SEVERE"]
    return [message for message in errors if "400 (Bad Request)" not in message]


def at(browser: Chrome, selector: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, selector)


WORDS = """
  return [...document.querySelectorAll(arguments[0])].map(
    (element) => element.checkVisibility() ? element.innerText.trim() : "");
"""


def words(browser: Chrome, selector: str) -> list[str]:
    """What can be read in each element, at one moment."""
    found: list[str] = browser.execute_script(WORDS, selector)
    return found


def ask(browser: Chrome, prompt: str = PROMPT) -> None:
    at(browser, "[name=prompt]").send_keys(prompt)
    at(browser, ".primary").click()


def ended(browser: Chrome) -> Callable[[], bool]:
    return lambda: at(browser, "#job").get_attribute("class") == "ended"


def in_gallery(browser: Chrome) -> Callable[[], bool]:
    return lambda: words(browser, "#gallery .words") == [PROMPT]


def test_a_correction_from_prompt_to_picture(page: Chrome) -> None:
    ask(page)
    until(ended(page))
    assert at(page, "h2").text == PROMPT
    assert "was accepted" in at(page, "[role=status]").text
    assert at(page, "#mark").text == "Redrawing 1 accepted"
    first, second = words(page, "#checks li")
    assert "there are three red apples" in first
    assert "in the original: four apples" in first
    assert "a blue cup is visible" in second
    assert words(page, "#negatives li") == ["<b>five</b> apples"]
    assert len(page.find_elements(By.CSS_SELECTOR, "#attempts img")) == 2
    at(page, "#attempts button").click()
    assert at(page, "#mark").text == "Original not accepted"
    assert "seen instead: four apples" in at(page, "#checks li").text
    until(in_gallery(page))


def test_the_slider_answers_the_arrow_keys(page: Chrome) -> None:
    ask(page)
    until(ended(page))
    slider = at(page, "#slider")
    before = page.execute_script("return getComputedStyle(before).clipPath")
    for _ in range(10):
        slider.send_keys(Keys.ARROW_LEFT)
    assert slider.get_attribute("value") == "40"
    assert page.execute_script("return getComputedStyle(before).clipPath") != before
    sizes = "return [before.naturalWidth, after.naturalWidth]"
    until(lambda: page.execute_script(sizes) == [16, 16])


def test_everything_is_reached_by_tab(page: Chrome) -> None:
    at(page, "[name=prompt]").send_keys(PROMPT)
    at(page, "[name=prompt]").send_keys(Keys.ENTER)
    until(ended(page))
    until(in_gallery(page))
    page.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in range(25):
        page.switch_to.active_element.send_keys(Keys.TAB)
        focused = page.switch_to.active_element
        reached.add(focused.get_attribute("name") or focused.get_attribute("id") or focused.text)
    assert {"prompt", "seed", "candidates", "dice", "Draw", "More settings", "slider", "picture",
            "sheet", "result"} <= reached  # fmt: skip
    assert any("Original" in name for name in reached)
    assert any(PROMPT in name for name in reached)


def test_what_the_server_refuses_is_said(page: Chrome) -> None:
    ask(page, "a lamp")
    refusal = until(lambda: at(page, "[role=alert]").text)
    assert "speaks of lamps" in refusal
    assert not at(page, "#job").is_displayed()


def test_every_setting_has_a_field_and_is_sent(page: Chrome, address: str) -> None:
    at(page, "summary").click()
    at(page, "[name=steps]").send_keys("6")
    at(page, "[name=negative]").send_keys("0..3")
    at(page, "[name=fresh] [value=true], [name=fresh] option:nth-child(2)").click()
    ask(page)
    until(ended(page))
    (job,) = httpx2.get(f"{address}/v1/jobs").json()["jobs"]
    sent = {name: job["settings"][name] for name in ("steps", "negative", "fresh", "looks")}
    assert sent == {"steps": 6, "negative": "0..3", "fresh": True, "looks": None}


def test_a_job_is_stopped_by_its_button(browser: Chrome, server: FakeServer) -> None:
    server.holds = redrawing
    with listening(server) as address:
        browser.get(address)
        ask(browser)
        until(lambda: words(browser, "#attempts button"))
        at(browser, "#stop").click()
        until(ended(browser))
        assert at(browser, "#live").text == "Stopped."


def test_a_reload_in_the_middle_goes_on(browser: Chrome, server: FakeServer) -> None:
    reloaded = Event()
    server.good, server.defaults = 3, looking()
    server.holds = lambda one, step: step == 4 and redrawing(one, step) and not reloaded.is_set()
    with listening(server) as address:
        browser.get(address)
        ask(browser)
        until(lambda: words(browser, ".emerging small"))
        browser.refresh()
        reloaded.set()
        assert until(lambda: words(browser, "h2")[0]) == PROMPT
        until(ended(browser))
        assert len(browser.find_elements(By.CSS_SELECTOR, "#attempts button")) >= 2


def test_a_server_that_comes_back_is_followed(browser: Chrome, server: FakeServer) -> None:
    server.holds = redrawing
    with listening(server) as address:
        browser.get(address)
        ask(browser)
        until(lambda: words(browser, "#attempts button"))
    server.holds = FakeServer.holds
    with listening(server, urlsplit(address).port or 0):
        until(ended(browser))
        assert len(browser.find_elements(By.CSS_SELECTOR, "#attempts button")) == 2


def test_earlier_jobs_are_opened_from_the_gallery(browser: Chrome, server: FakeServer) -> None:
    with listening(server) as address, client_of(address) as client:
        for seed in range(26):
            submit(client, seed=seed, prompt=f"picture {seed}")
        until(lambda: client.get("/v1/jobs").json()["jobs"][0]["state"] == "ended")
        browser.get(address)
        until(lambda: len(words(browser, "#gallery li")) == 24)
        browser.execute_script("more.click()")
        until(lambda: len(words(browser, "#gallery li")) == 26)
        browser.execute_script("document.querySelector('#gallery li:last-child a').click()")
        until(lambda: words(browser, "#title") == ["picture 0"])
        assert words(browser, "#title") == ["picture 0"]


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window_shows_everything(page: Chrome, dark: bool) -> None:
    show(page, 390, 844, dark=dark)
    ask(page, "a word " + "x" * 200)
    until(ended(page))
    widths = "[document.documentElement.scrollWidth, innerWidth]"
    assert page.execute_script(f"return {widths}") == [390, 390]
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(19, 23, 22)") == dark


def test_nothing_comes_from_elsewhere(page: Chrome, address: str) -> None:
    ask(page)
    until(ended(page))
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    loaded = page.execute_script(script)
    assert loaded
    assert all(name.startswith(address) for name in loaded)


def test_a_browser_asks_for_the_token_once(browser: Chrome, server: FakeServer) -> None:
    server.access = Access(token="a-token-of-some-length")
    with listening(server) as address:
        browser.get(address.replace("http://", f"http://:{server.access.token}@"))
        browser.get(address)
        ask(browser)
        until(ended(browser))
        assert len(browser.find_elements(By.CSS_SELECTOR, "#attempts button")) == 2

"""The page, its parts, and the description of the interface."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.conftest import Running, wav


def test_the_page_asks_nobody_else_for_anything(server: Running) -> None:
    page = httpx.get(server.url)
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        part = httpx.get(f"{server.url}/{name}")
        assert part.status_code == 200
        assert "://" not in part.text.replace("://schemas", "")


def test_the_description_names_what_there_is(server: Running) -> None:
    described = httpx.get(f"{server.url}/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    paths = {route.path for route in server.engine_app.routes if hasattr(route, "path")}
    assert set(described["paths"]) <= paths
    assert "/v1/audio/transcriptions" in httpx.get(f"{server.url}/docs").text


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium whose microphone plays a file."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver")
    sound = tmp_path / "microphone.wav"
    sound.write_bytes(wav("one two three four . . . . . .")[1])
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={sound}",
    ):  # fmt: skip
        options.add_argument(argument)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as found:
        yield found


@pytest.mark.slow
def test_the_microphone_s_words_are_shown(server: Running, browser: Any) -> None:
    browser.get(server.url)
    browser.find_element("id", "record").click()
    shown = ""
    for _ in range(300):
        time.sleep(0.1)
        shown = browser.find_element("id", "text").text
        if "one two three four" in shown:
            break
    assert "one two three four" in shown, browser.find_element("id", "status").text


@pytest.mark.slow
def test_a_file_s_words_are_shown(server: Running, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(wav("five six . . . . . . seven")[1])
    browser.get(server.url)
    browser.find_element("id", "file").send_keys(str(tmp_path / "talk.wav"))
    for _ in range(100):
        time.sleep(0.1)
        if browser.find_element("id", "status").text == "Done.":
            break
    assert browser.find_element("id", "text").text == "five six seven"

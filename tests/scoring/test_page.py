"""The report to look at: well formed, complete without a network, and, where Chromium is found, working in it."""

import json
import random
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fun_asr.scoring.page.page import render_page
from fun_asr.scoring.summary import Bootstrap, Summary, summarize
from fun_asr.scoring.utterance import Utterance
from fun_asr.scoring.wer import score

VOID = {"meta", "link", "input", "br"}
TRICKY = "</script><b>&amp; \"'"


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.shown: set[str] = set()
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.add(data)
        if self.open and self.open[-1] == "script":
            self.texts[self.elements[-1][1].get("type") or "javascript"] = data


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    folder = tmp_path_factory.mktemp("page")
    soundfile.write(folder / "a #1.wav", np.zeros(1600), 16_000)
    rng = random.Random(0)
    references, hypotheses = {}, {}
    for number in range(120):
        words = rng.choices(["one", "two", "three", "cat", "dog"], k=rng.randrange(3, 12))
        said = [rng.choice(["cat", word]) for word in words if rng.random() > 0.1]
        name = f"utt-{number}" if number else f"utt-{TRICKY}"
        references[name] = Utterance(
            id=name, text=" ".join(words), duration=len(words) / 2, speaker=f"speaker {number % 7}",
            corpus=["<first>", "second"][number % 2], audio=str(folder / "a #1.wav"),
        )  # fmt: skip
        hypotheses[name] = Utterance(id=name, text=" ".join(said), confidence=rng.random())
    del hypotheses["utt-5"]
    first = score(references, hypotheses)
    return summarize(first, second=score(references, references), bootstrap=Bootstrap(replicates=100))


@pytest.fixture(scope="module")
def path(summary: Summary) -> Path:
    folder = Path(summary.score.utterances[0].reference.audio or "").parent
    path = folder / "report.html"
    path.write_text(render_page(summary, folder, title=f"Ünïcode {TRICKY}"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_nothing_is_fetched(page: Page, path: Path) -> None:
    addresses = [
        (tag, value)
        for tag, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action")
    ]
    assert addresses == [("link", "data:,")]
    text = path.read_text(encoding="utf-8")
    assert "http" not in text and "url(" not in text and "@import" not in text


def test_the_figures_and_charts_are_there(page: Page, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    labels = [attributes["aria-label"] for tag, attributes in page.elements if tag == "svg"]
    for label in ("Errors by kind", "WER by corpus", "WER by speaker", "WER against duration", "Substituted"):
        assert label in labels
    assert {"WER against confidence", "Two systems", "Deleted"} <= set(labels)
    assert "System 2 is <b>better</b>" in text
    assert "Without a hypothesis" in text


def test_the_table_has_every_utterance(page: Page, summary: Summary) -> None:
    rows = json.loads(page.texts["application/json"])["rows"]
    assert [row["id"] for row in rows] == [u.reference.id for u in summary.score.utterances]
    for row, utterance in zip(rows, summary.score.utterances, strict=True):
        reference = " ".join(piece[0] for piece in row["pieces"] if piece[0])
        hypothesis = " ".join(piece[-1] for piece in row["pieces"] if piece[-1])
        assert reference == utterance.reference.text
        assert hypothesis == (utterance.hypothesis.text if utterance.hypothesis else "")
        assert row["audio"] == "a%20%231.wav"


def test_what_was_said_stays_text(tmp_path: Path) -> None:
    script, image = "<script>alert(1)</script>", "<img/src=x/onerror='alert(1)'>"
    speaker = f"{script} {{{{ 7 * 7 }}}}"
    references = {
        str(n): Utterance(
            id=str(n),
            text=f"a {script} b {image}",
            speaker=speaker if n else "other",
            corpus=image if n > 1 else "other",
        )
        for n in range(3)
    }
    hypotheses = {str(n): Utterance(id=str(n), text=f"a {image} b") for n in range(3)}
    summary = summarize(score(references, hypotheses), bootstrap=Bootstrap(replicates=10))
    page = Page(render_page(summary, tmp_path, title=script))
    assert [tag for tag, _ in page.elements if tag in ("script", "img")] == ["script", "script"]
    assert {script, f"{image}: 3", f"{script} → {image}: 3"} <= page.shown
    assert all(any(text.startswith(f"{name}: ") and "%" in text for text in page.shown) for name in (speaker, image))
    assert json.loads(page.texts["application/json"])["rows"][0]["pieces"][1] == [script, image]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync window-size=1280,1000"
    )
    for flag in [*flags.split(), f"user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


COLUMN = (
    "return [...document.querySelectorAll('#utterances tbody tr')].map(row => row.querySelector('.{}').textContent)"
)


@pytest.mark.slow
def test_in_chromium(browser: Any, path: Path, summary: Summary) -> None:
    browser.get(path.as_uri())
    assert browser.title == f"Ünïcode {TRICKY}"

    def column(name: str) -> list[str]:
        return list(browser.execute_script(COLUMN.format(name)))

    def click(selector: str) -> None:
        browser.find_element("css selector", selector).click()

    wrong = [u for u in summary.score.utterances if u.counts.errors]
    errors = [int(value) for value in column("errors")]
    assert errors == sorted((u.counts.errors for u in wrong), reverse=True)[:50]
    click("th[data-key=seconds] button")
    seconds = [float(value) for value in column("seconds")]
    assert seconds == sorted((u.reference.duration or 0.0 for u in wrong), reverse=True)[:50]
    click("th[data-key=seconds] button")
    assert column("seconds") == sorted(column("seconds"), key=float)
    click("th[data-key=id] button")
    # Numbers in ids count as such: 9 comes before 10.
    ascending = [name for name in column("id") if name != f"utt-{TRICKY}"]
    assert ascending == sorted(ascending, key=lambda name: int(name.removeprefix("utt-")))
    click("#only")
    click("#more")
    assert len(column("id")) == 100
    browser.find_element("id", "search").send_keys("utt-</SCRIPT>")
    assert column("id") == [f"utt-{TRICKY}"]
    click(".play")
    duration = "return new Promise(done => { const a = document.querySelector('audio');"
    duration += " a.duration ? done(a.duration) : a.onloadedmetadata = () => done(a.duration); })"
    assert browser.execute_script(duration) == pytest.approx(0.1, abs=0.05)
    background = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(background)
    click("#theme")
    assert browser.execute_script(background) != before
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.get_log("browser") == []

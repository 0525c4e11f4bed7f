"""The report in a real browser: nothing is fetched, nothing runs, all is seen and reached.

Needs Chromium (Debian's package chromium); without one these tests are skipped. With
PIXELMILL_SCREENSHOTS a folder is named into which pictures of all pages go.
"""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from synthetic_runs import make_run, make_training

from pipeline import cli, run_files
from pipeline.report import run_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BROWSER, reason="no Chromium on the path; apt-get install chromium runs these tests"
    ),
]
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
PAGES = ("0", "1", "10", "100000", "comparison", "training")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run of each size, of two runs, and of a training."""
    root = tmp_path_factory.mktemp("pages")
    found = {}
    for images in (0, 1, 10, 100_000):
        found[str(images)] = make_run(root / str(images), images) / run_files.REPORT
    pictures = root / "10" / "in"
    other = make_run(root / "other", 1500, shift=1, pictures=pictures)
    this = make_run(root / "this", 1500, pictures=pictures)
    found["comparison"] = Path(run_report(str(this), str(other), None))
    found["training"] = make_training(root)
    assert cli.main(["report", str(found["training"])]) == 0
    found["training"] /= run_files.REPORT
    return found


def _open(browser: Any, path: Path, view: str, **more: Any) -> tuple[Any, list[str]]:
    """The opened page, and what went wrong: requests, errors, dialogs."""
    page = browser.new_context(**VIEWS[view], **more).new_page()
    wrong: list[str] = []
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
        ),
    )
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    return page, wrong


@pytest.mark.parametrize(
    ("name", "view"),
    [
        *((name, view) for name in PAGES for view in ("light", "phone")),
        *(("10", "dark"), ("comparison", "dark")),
    ],
)
def test_looks_right(browser: Any, pages: dict[str, Path], name: str, view: str) -> None:
    assert pages[name].stat().st_size < 10_000_000
    page, wrong = _open(browser, pages[name], view)
    page.evaluate("document.querySelectorAll('img').forEach(img => img.loading = 'eager')")
    page.wait_for_function("[...document.images].every(img => img.complete)")
    width = VIEWS[view]["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(img => img.naturalWidth > 0)")
    assert page.evaluate("window.hurt") is None
    assert page.evaluate("document.querySelectorAll('main img').length > 0") == (
        name not in ("0", "training")
    )
    shot = page.screenshot(full_page=True)
    if folder := os.environ.get("PIXELMILL_SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / f"{name}-{view}.png").write_bytes(shot)
    with Image.open(io.BytesIO(shot)) as opened:
        pixels = np.asarray(opened.convert("L"))
    assert (pixels[:4].mean() < 60) == (view == "dark")
    assert pixels.std() > 10
    assert wrong == []
    page.context.close()


@pytest.mark.parametrize("view", ["light", "dark"])
@pytest.mark.parametrize("name", ["10", "comparison", "training"])
def test_breaks_no_rule_of_accessibility(
    browser: Any, pages: dict[str, Path], name: str, view: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, _ = _open(browser, pages[name], view, bypass_csp=True)
    found = Axe().run(page).response["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found] == []
    page.context.close()


def test_is_used_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = _open(browser, pages["comparison"], "light")
    focused = "document.activeElement"
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.className") == "skip"
    assert page.evaluate(f"{focused}.getBoundingClientRect().width") > 50  # it shows itself
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    page.reload()
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(f"{focused}.getAttribute('href') || {focused}.tagName"))
    links = page.evaluate(
        "[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'))"
    )
    assert len(links) > 6 and set(links) <= reached
    assert {"SUMMARY", "DIV"} <= reached  # what opens, and what scrolls
    page.context.close()


def test_sections_are_where_the_links_lead(browser: Any, pages: dict[str, Path]) -> None:
    page, _ = _open(browser, pages["100000"], "phone")
    page.emulate_media(reduced_motion="reduce")
    page.click("nav a[href='#failures']")
    top = page.evaluate("document.getElementById('failures-title').getBoundingClientRect().top")
    bar = page.evaluate("document.querySelector('nav').getBoundingClientRect().bottom")
    assert bar - 1 <= top < 740  # not under the bar that stays
    page.context.close()

"""Open every page of the built site in a browser: no error on its console, nothing fetched.

    python scripts/check_site.py build/site [--browser /usr/bin/chromium] [--shots FOLDER]

Needs the package playwright and a Chromium, found by name unless ``--browser`` says where. With
``--shots`` the pages named by ``--page`` are kept as pictures, 1,200 and 400 pixels wide.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = (1200, 400)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    options = parsed()
    # what a server answers to a wrong address is not opened from disk
    pages = sorted(path for path in options.site.rglob("*.html") if path.name != "404.html")
    chosen = [options.site / page for page in options.page]
    failed = 0
    with sync_playwright() as playwright:
        where = options.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        page = browser.new_page()
        wrong: list[str] = []
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if remote(asked.url) else None)
        for path in pages:
            wrong.clear()
            page.set_viewport_size({"width": WIDTHS[0], "height": 900})
            page.goto(path.resolve().as_uri(), wait_until="load")
            wide = overflow(page)
            failed += bool(wrong)
            for line in wrong:
                print(f"{path.relative_to(options.site)}: {line}")
            if wide:
                print(f"{path.relative_to(options.site)}: {wide} pixels wider than the window")
            if options.shots and path in chosen:
                shoot(page, options.shots, path)
        browser.close()
    print(f"{len(pages)} pages, {failed} with errors")
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("--browser")
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--page", action="append", default=[], help="below the site")
    return parser.parse_args()


def remote(url: str) -> bool:
    """Whether a request leaves the machine."""
    return not url.startswith(("file:", "data:", "blob:"))


def overflow(page: Page) -> int:
    """By how many pixels a page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def shoot(page: Page, folder: Path, path: Path) -> None:
    """A picture of the page at each width."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        page.screenshot(path=folder / f"{path.stem}-{width}.png")


if __name__ == "__main__":
    sys.exit(main())

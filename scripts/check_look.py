"""Open pages of `wsl zoo look` in a browser: no error, nothing fetched, and pictures that answer.

    python scripts/check_look.py page.html [...] [--browser /usr/bin/chromium] [--shots FOLDER]

Hovers over a point, chooses points in a map and a range in a histogram, and sees whether all other
pictures follow; clicks a CSV. Needs the package playwright and a Chromium, found by name unless
``--browser`` says where. With ``--shots`` each page is kept as pictures, 1,200 and 400 pixels wide.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Locator, Page, sync_playwright

WIDTHS = (1200, 400)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHOSEN = "gd => gd.data[0].selectedpoints ? gd.data[0].selectedpoints.length : -1"
BLUE = "gd => gd.data[1].y.reduce((a, b) => a + b, 0)"
LINES = "gd => gd.data[3].x.length"


def main() -> int:
    options = parsed()
    failed = 0
    with sync_playwright() as playwright:
        where = options.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=where, args=["--no-sandbox"])
        for path in options.page:
            page = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
            wrong: list[str] = []
            listen(page, wrong)
            page.goto(path.resolve().as_uri(), wait_until="load")
            try:
                wrong += [each for each in checks(page) if each]
                if options.shots:
                    shoot(page, options.shots, path, wrong)
            except Exception as error:  # noqa: BLE001 a check that cannot run is a failed one
                wrong.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            for line in wrong:
                print(f"{path}: {line}")
            failed += bool(wrong)
            page.close()
        browser.close()
    print(f"{len(options.page)} pages, {failed} with errors")
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="+")
    parser.add_argument("--browser")
    parser.add_argument("--shots", type=Path)
    return parser.parse_args()


def listen(page: Page, wrong: list[str]) -> None:
    """Collect what the console says, and what is asked for elsewhere."""
    page.on("console", lambda said: wrong.append(said.text) if complains(said) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else wrong.append(r.url))


def complains(said: ConsoleMessage) -> bool:
    """Whether it is a complaint of the page, and not of a graphics driver without hardware."""
    return said.type in ("error", "warning") and "GL Driver Message" not in said.text


def drawn(page: Page, kind: str, number: int = 0) -> Locator:
    """A picture, once it has been drawn."""
    place = page.locator(f".{kind}").nth(number)
    place.scroll_into_view_if_needed()
    page.wait_for_function("gd => gd._fullData !== undefined", arg=place.element_handle())
    page.wait_for_timeout(300)
    return place


def checks(page: Page) -> list[str]:
    """What did not happen that should have."""
    everything = page.evaluate("JSON.parse(document.getElementById('data').textContent).rows")
    first, bars = drawn(page, "map"), drawn(page, "hist")
    curve = drawn(page, "curve")
    told = [hovering(page, first)]
    uploads = page.locator("[data-title*='hare'], [data-title*='loud']").count()
    told.append(expect(not uploads, "a button would upload the picture"))
    box(page, first, (0.05, 0.05, 0.7, 0.95))
    count, blue, lines = first.evaluate(CHOSEN), bars.evaluate(BLUE), curve.evaluate(LINES)
    told.append(expect(0 < count < everything, f"a lasso chose {count} of {everything}"))
    told.append(expect(0 < blue <= count, f"the histogram shows {blue} of {count} chosen"))
    told.append(expect(lines > 0, "no line for the chosen members on a tensor's band"))
    if page.locator(".map").count() > 1:
        other = drawn(page, "map", 1).evaluate(CHOSEN)
        told.append(expect(other == count, f"the second map shows {other} of {count} chosen"))
    narrow(page, bars)
    fewer = first.evaluate(CHOSEN)
    told.append(expect(fewer < count, f"a range of a histogram left {fewer} of {count}"))
    told.append(expect(page.locator(".chip").count() == 2, "two choices are not told in the bar"))
    rows = page.locator("tbody tr").count()
    told.append(expect(rows == min(fewer, 100), f"the table has {rows} rows for {fewer} chosen"))
    told.append(saved(page))
    page.get_by_role("button", name="choose all").click()
    told.append(expect(first.evaluate(CHOSEN) == -1, "choosing all did not let go"))
    return told + [turned(page, tab) for tab in page.get_by_role("tab").all()[1:]]


def turned(page: Page, tab: Locator) -> str:
    """Turn to another architecture, by the keyboard, and back."""
    tab.focus()
    page.keyboard.press("Enter")
    count = drawn(page, "map").evaluate("gd => gd.data[0].x.filter(Number.isFinite).length")
    name = tab.text_content()
    drawn(page, "curve")
    page.get_by_role("tab").first.click()
    return expect(count > 1, f"the map of {name} shows {count} points")


def expect(holds: bool, otherwise: str) -> str:
    return "" if holds else otherwise


def hovering(page: Page, picture: Locator) -> str:
    """Point at the first checkpoint of a map, and read what is shown."""
    picture.scroll_into_view_if_needed()
    place = picture.evaluate(
        """gd => { const r = gd.getBoundingClientRect(), {xaxis, yaxis} = gd._fullLayout;
           const i = gd.data[0].x.findIndex(Number.isFinite);
           return [r.x + xaxis._offset + xaxis.d2p(gd.data[0].x[i]),
                   r.y + yaxis._offset + yaxis.d2p(gd.data[0].y[i])]; }"""
    )
    page.mouse.move(place[0] - 30, place[1] - 30)
    page.mouse.move(*place, steps=5)
    page.wait_for_timeout(400)
    shown = picture.locator(".hoverlayer .hovertext").all_text_contents()
    return expect(any("member" in text for text in shown), f"hovering shows {shown}")


def box(page: Page, picture: Locator, share: tuple[float, float, float, float]) -> None:
    """Draw a lasso around a part of a picture's plotting area."""
    picture.scroll_into_view_if_needed()
    x0, y0, x1, y1 = share
    left, top, width, height = picture.evaluate(
        """gd => { const r = gd.getBoundingClientRect(), s = gd._fullLayout._size;
           return [r.x + s.l, r.y + s.t, s.w, s.h]; }"""
    )
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    places = [(left + width * x, top + height * y) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)


def narrow(page: Page, picture: Locator) -> None:
    """Drag over the left half of a histogram."""
    picture.scroll_into_view_if_needed()
    left, top, width, height = picture.evaluate(
        """gd => { const r = gd.getBoundingClientRect(), s = gd._fullLayout._size;
           return [r.x + s.l, r.y + s.t, s.w, s.h]; }"""
    )
    page.mouse.move(left + 0.01 * width, top + 0.5 * height)
    page.mouse.down()
    page.mouse.move(left + 0.5 * width, top + 0.6 * height, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)


def saved(page: Page) -> str:
    """Click the first CSV, and count its lines."""
    with page.expect_download() as coming:
        page.locator("a.csv").first.click()
    lines = Path(coming.value.path()).read_text().splitlines()
    return expect(len(lines) > 1 and lines[0].startswith('"x","y"'), f"a CSV holds {lines[:1]}")


def shoot(page: Page, folder: Path, path: Path, wrong: list[str]) -> None:
    """The whole page at each width, every picture drawn; it must not be wider than the window."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        for place in page.locator("[role=img]").all():
            place.scroll_into_view_if_needed()
        page.wait_for_timeout(800)
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        wrong += [f"{wide} pixels wider than a window of {width}"] if wide > 0 else []
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=folder / f"{path.stem}-{width}.png", full_page=True)
        box(page, drawn(page, "map"), (0.1, 0.05, 0.6, 0.6))
        page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=folder / f"{path.stem}-{width}-chosen.png", full_page=True)
        page.get_by_role("button", name="choose all").click()


if __name__ == "__main__":
    sys.exit(main())

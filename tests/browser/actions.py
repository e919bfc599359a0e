"""What a visitor does on the pages, and sees there: files to choose and drop, results, tables, charts, pictures."""

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.browser.conftest import COLLECTION


def jpeg(name: str, data: bytes) -> FilePayload:
    """Return a file to choose in a file field."""
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def result_names(page: Page) -> list[str]:
    """Return the names of the images that the search page shows."""
    return [name.strip() for name in page.locator("#results .name").all_text_contents()]


def first_names(page: Page) -> list[str]:
    """Return the names of the first twelve images that the search page shows; at any moment, more may come behind."""
    return result_names(page)[:12]


def drop_files(page: Page, *files: tuple[str, bytes]) -> None:
    """Drop files onto the page with the events that a browser sends: enter, over, drop."""
    page.evaluate(
        """(files) => {
            const carried = new DataTransfer();
            for (const [name, data] of files) {
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                carried.items.add(new File([bytes], name, { type: "image/jpeg" }));
            }
            for (const type of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true });
                document.querySelector("main").dispatchEvent(event);
            }
        }""",
        [[name, base64.b64encode(data).decode()] for name, data in files],
    )


def drop_folder(page: Page, name: str, *files: tuple[str, bytes]) -> None:
    """Drop a folder with files onto the page; entries of folders are made by a browser alone: these stand for them."""
    page.evaluate(
        """([folder, files]) => {
            const bytes = (data) => Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const last = (path) => path.split("/").at(-1);
            const entries = files.map(([path, data]) => ({
                isFile: true,
                name: last(path),
                fullPath: `/${folder}/${path}`,
                file: (take) => take(new File([bytes(data)], last(path))),
            }));
            const reader = { readEntries: (take) => take(entries.splice(0, 2)) };
            const below = { isDirectory: true, name: folder, createReader: () => reader };
            const carried = new DataTransfer();
            carried.items.add(new File([], folder));
            const real = DataTransferItem.prototype.webkitGetAsEntry;
            DataTransferItem.prototype.webkitGetAsEntry = () => below;
            for (const type of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true });
                document.querySelector("main").dispatchEvent(event);
            }
            DataTransferItem.prototype.webkitGetAsEntry = real;
        }""",
        [name, [[path, base64.b64encode(data).decode()] for path, data in files]],
    )


def drag_address(page: Page, address: str) -> None:
    """Drop onto the page what a browser carries of a picture of another page: an address and a piece of HTML."""
    page.evaluate(
        """(address) => {
            const carried = new DataTransfer();
            carried.setData("text/uri-list", "https://elsewhere.example/page");
            carried.setData("text/html", `<a href="https://elsewhere.example/page"><img src="${address}"></a>`);
            for (const type of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true });
                document.querySelector("main").dispatchEvent(event);
            }
        }""",
        address,
    )


def pinch(where: Locator, spreads: Sequence[int]) -> None:
    """Put two fingers on the middle of an element, so many pixels from it, and move them on; the page needs touch."""
    box = where.bounding_box()
    assert box is not None
    touch = where.page.context.new_cdp_session(where.page)
    across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for place, spread in enumerate(spreads):
        fingers = [{"x": across + side * spread, "y": down, "id": number} for number, side in enumerate((-1, 1))]
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove" if place else "touchStart", "touchPoints": fingers})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    touch.detach()


@contextmanager
def requests_held(page: Page, url: str | re.Pattern[str]) -> Iterator[list[Route]]:
    """Have requests for a URL answered only when the block ends, as on a slow machine; yields those that have come."""
    held: list[Route] = []
    is_over = False

    def hold(route: Route) -> None:
        if is_over:
            route.continue_()
        else:
            held.append(route)

    page.route(url, hold)
    yield held
    is_over = True
    for route in held:
        route.continue_()


@contextmanager
def script_held(page: Page, name: str) -> Iterator[None]:
    """Have a script come only when the block ends."""
    with requests_held(page, f"**/js/{name}") as held:
        yield
        assert len(held) == 1


def open_search_page(page: Page) -> None:
    """Open the search page of the collection `COLLECTION`."""
    page.goto(f"/?collection={COLLECTION}")
    page.wait_for_load_state("networkidle")


def row(table: Locator, place: int) -> list[str]:
    """Return the texts of a row of a table, one for each cell, without the intervals in them."""
    found = table.locator("tbody tr").nth(place).locator("th, td")
    texts: list[str] = found.evaluate_all(
        "(cells) => cells.map((cell) => (cell.querySelector('.figure') ?? cell).textContent.trim())"
    )
    return texts


def drawn(page: Page) -> dict[str, int]:
    """Return how many points each chart of the page shows, once all have been drawn."""
    expect(page.locator("[data-chart]:not([data-drawn])")).to_have_count(0)
    shown: dict[str, int] = page.locator("[data-chart]").evaluate_all(
        """(figures) => Object.fromEntries(figures.map((figure) =>
            [figure.id, figure.querySelectorAll('svg path, svg circle').length && Number(figure.dataset.drawn)]))"""
    )
    return shown


def all_pictures(page: Page, pictures: str) -> int:
    """Return how many pictures there are, all of which must have come."""
    found = page.locator(pictures)
    for place in range(found.count()):
        found.nth(place).scroll_into_view_if_needed()
        expect(found.nth(place)).not_to_have_js_property("naturalWidth", 0)
    return found.count()

"""What a visitor does on the pages: choose and drop files, open the search page, read the results."""

import base64

from playwright.sync_api import FilePayload, Page

from tests.browser.conftest import COLLECTION


def jpeg(name: str, data: bytes) -> FilePayload:
    """Return a file to choose in a file field."""
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def result_names(page: Page) -> list[str]:
    """Return the names of the images that the search page shows."""
    return [name.strip() for name in page.locator("#results .name").all_text_contents()]


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


def open_search_page(page: Page) -> None:
    """Open the search page of the collection `COLLECTION`."""
    page.goto(f"/?collection={COLLECTION}")
    page.wait_for_load_state("networkidle")

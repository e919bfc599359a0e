"""What holds on every page that a German browser sees."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from services.web.languages.catalogues import FOLDER, read_catalogue

_READ = """() => {
    const texts = [document.title];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const { parentElement: parent, data } = walk.currentNode;
        if (!parent.closest("script, style, code, pre, [lang=en]")) texts.push(data);
    }
    for (const element of document.querySelectorAll("[title], [alt], [aria-label], [placeholder], [data-summary]")) {
        if (element.lang === "en") continue;
        texts.push(element.title, element.alt, element.ariaLabel, element.placeholder, element.dataset.summary);
    }
    return texts.filter(Boolean).map((text) => text.trim());
}"""


def english_texts() -> set[str]:
    """Return the texts without values that German has other words for."""
    return {
        message.id
        for message in read_catalogue(FOLDER / "de.po")
        if isinstance(message.id, str) and "%(" not in message.id and message.id not in {"", message.string}
    }


def expect_german(page: Page, known: set[str], *, axe: Axe | None = None) -> None:
    """Expect a page to be German, to have no English text of ours, and to be no wider than the screen."""
    path = page.url
    assert page.evaluate("document.documentElement.lang") == "de", path
    assert known.isdisjoint(page.evaluate(_READ)), (path, known & set(page.evaluate(_READ)))
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth"), path
    if axe is not None:
        found = axe.run(page)
        assert not found.violations_count, f"{path}\n{found.generate_report()}"

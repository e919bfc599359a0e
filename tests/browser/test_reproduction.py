"""The page of the reproduced report in a real browser: wide tables on a phone, by keyboard, and nobody asked."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from reproduction.page import write
from reproduction.plots import draw_classes
from reproduction.sections import THEIRS, Plot, Section, Table


@pytest.mark.parametrize("width", [390, 1200])
def test_a_page_fits_and_asks_nobody(browser: Browser, tmp_path: Path, width: int) -> None:
    draw_classes({"training": {"a": 3, "b": 5}, "validation": {"a": 1, "b": 2}}, tmp_path / "p.png")
    columns = tuple(f"a rather long name {number}" for number in range(14))
    rows = (("here", *["0.123"] * 13), (f"ResNet50, {THEIRS}", *["0.456"] * 13))
    section = Section("5.1.1", "A section", ("Said of it.",), (Table("Wide", columns, rows),), (Plot("p.png", "bars"),))
    write(tmp_path, [section, Section("5.1.2", "Later", pending=True)], {"SHA-256": "0" * 64})
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    assert [one for one in asked if not one.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_alt_text("bars").evaluate("one => one.naturalWidth") > 100
    assert page.locator("tr.theirs").count() == 1
    region = page.get_by_role("region", name="Wide")
    region.focus()
    page.keyboard.press("ArrowRight")
    if width == 390:
        page.wait_for_function("document.activeElement.scrollLeft > 0")
    page.get_by_role("link", name="5.1.2 Later").click()
    assert page.url.endswith("#s5.1.2")
    page.close()

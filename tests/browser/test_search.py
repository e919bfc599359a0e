"""The search page in a browser: files, the way back, options and the lightbox."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.actions import (
    drag_address,
    drop_files,
    first_names,
    jpeg,
    open_search_page,
    result_names,
    script_held,
)
from tests.browser.conftest import COLLECTION, Watch
from tests.support.stack import Stack
from tests.support.web_client import picture


def test_a_chosen_file_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 405.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert result_names(page)[0] == "work 405.jpg"
    assert len(first_names(page)) == 12
    expect(page.locator("#results .score").first).to_have_text("1.000")
    expect(page.locator("#results .label").first).to_have_text("shapes")
    facts = page.locator("#results .facts")
    expect(facts).to_contain_text("Exact scan")
    expect(facts).to_contain_text("Cosine")
    expect(facts).to_contain_text("15 of 15")
    expect(page.locator(".timings")).to_contain_text(re.compile(r"decode .* ms\s*embed .* ms\s*rank .* ms"))
    expect(page.locator("#status")).to_have_text(re.compile(r"12 results from an exact scan in .* ms"))
    preview = page.locator("#query")
    expect(preview).to_be_visible()
    assert preview.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [200, 150]


def test_a_file_that_was_chosen_before_the_script_came_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    with script_held(page, "search.js"):
        page.goto(f"/?collection={COLLECTION}", wait_until="commit")
        page.set_input_files("#image", [jpeg("work 403.jpg", shown["work 403.jpg"])])
    expect(page.locator("#results .name").first).to_have_text("work 403.jpg")


def test_a_file_dropped_anywhere_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    drop_files(page, ("mine.jpg", shown["work 407.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert result_names(page)[0] == "work 407.jpg"
    expect(page.locator("#drop")).to_be_hidden()


def test_a_pasted_picture_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.evaluate(
        """async (data) => {
            const bitmap = await createImageBitmap(await (await fetch(data)).blob());
            const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
            canvas.getContext("2d").drawImage(bitmap, 0, 0);
            const blob = await canvas.convertToBlob({ type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        page.locator("#results .work img").first.get_attribute("src"),
    )
    wanted = page.locator("#results .name").first.text_content()
    page.locator("h1").click()
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert result_names(page)[0] == wanted
    assert result_names(page)[0] in shown


def test_pasted_text_is_no_picture(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    open_search_page(page)
    page.evaluate("navigator.clipboard.writeText('a picture of a cat')")
    page.locator("h1").click()
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator("#results .notice")).to_contain_text("The clipboard holds no picture")


def test_more_like_this_and_the_way_back(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 402.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    first = first_names(page)
    page.locator("#results [data-more-like-this]").nth(1).click()
    expect(page.locator("#found-title")).to_have_text(f"More like {first[1]}")
    assert re.search(rf"\?collection={COLLECTION}&id=\d+&model=", page.url)
    second = first_names(page)
    assert second[0] == first[1]
    expect(page.locator("#results .self")).to_have_count(1)
    page.locator("#results [data-more-like-this]").first.click()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[1]}")
    page.go_back()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[0]}")
    assert first_names(page) == second
    page.go_back()
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert first_names(page) == first
    expect(page.locator("#query")).to_have_attribute("alt", "mine.jpg")
    page.go_back()
    expect(page.locator("#found-title")).to_have_text("Or begin with one of these images")
    expect(page.locator("#query")).to_be_hidden()
    page.go_forward()
    page.go_forward()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[0]}")
    page.reload()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[0]}")
    assert first_names(page) == second


def test_options_are_kept_and_search_again(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 403.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    page.get_by_label("LSH").press("Space")
    expect(page.locator("#results .facts")).to_contain_text("LSH index")
    page.get_by_label("Euclidean").press("Space")
    expect(page.locator("#results .facts")).to_contain_text("Euclidean")
    page.get_by_label("Results").select_option("24")
    expect(page).to_have_url(re.compile(rf"/\?collection={COLLECTION}&k=24&mode=lsh&metric=euclidean&"))
    assert result_names(page)[0] == "work 403.jpg"
    page.get_by_label("Exact").press("Space")
    expect(page).to_have_url(re.compile(rf"/\?collection={COLLECTION}&k=24&mode=exact&metric=euclidean&"))
    expect(page.locator("#results .facts")).to_contain_text("15 of 15")
    assert len(result_names(page)) == 15


@pytest.mark.parametrize(
    ("data", "words"), [(b"no picture at all", "this is a text file"), (picture(1)[:900], "cut short"), (b"", "empty")]
)
def test_a_file_that_is_no_picture_is_explained(
    page: Page, watch: Watch, shown: dict[str, bytes], data: bytes, words: str
) -> None:
    assert shown
    open_search_page(page)
    page.set_input_files("#image", jpeg("broken.jpg", data))
    expect(page.locator("#results .notice")).to_contain_text(words)
    expect(page.locator("#status")).to_contain_text(words)
    watch.expect_status(422)


def test_another_collection_can_be_chosen(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    page.goto("/")
    chooser = page.get_by_label("Collection", exact=True)
    chooser.select_option(COLLECTION)
    page.wait_for_url(f"**/?collection={COLLECTION}")
    assert set(result_names(page)) <= shown.keys()


def test_without_scripts_the_form_still_searches(browser: Browser, stack: Stack, shown: dict[str, bytes]) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=stack.url)
    page = context.new_page()
    page.goto(f"/?collection={COLLECTION}")
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 404.jpg"]))
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found-title")).to_have_text("More like mine.jpg")
    assert result_names(page)[0] == "work 404.jpg"
    page.locator("#results [data-more-like-this]").first.click()
    expect(page.locator("#found-title")).to_have_text("More like work 404.jpg")
    context.close()


# The lightbox


def test_the_lightbox_obeys_the_keyboard(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 401.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    found = result_names(page)
    box = page.locator("#lightbox")
    page.locator("#results .mount").first.focus()
    page.keyboard.press("Enter")
    expect(box).to_be_visible()
    expect(box.locator(".title")).to_have_text(found[0])
    expect(box.locator(".facts")).to_have_text(re.compile(r"score 1\.000 · shapes · 200 × 150 px"))
    expect(box.get_by_label("Previous image")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(box.locator(".title")).to_have_text(found[1])
    expect(box.locator("img")).to_have_js_property("naturalWidth", 200)
    link = box.get_by_role("link", name="Open the original").get_attribute("href")
    assert page.request.get(link or "").body() == shown[found[1]]
    for _ in range(8):  # the focus stays inside
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('#lightbox')"
        )
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    expect(page.locator("#results .mount").nth(1)).to_be_focused()


def test_more_like_this_from_the_lightbox(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    open_search_page(page)
    wanted = result_names(page)[2]
    page.locator("#results .mount").nth(2).click()
    page.locator("#lightbox").get_by_role("link", name="More like this").click()
    expect(page.locator("#lightbox")).to_be_hidden()
    expect(page.locator("#found-title")).to_have_text(f"More like {wanted}")


def test_a_picture_dragged_from_another_page_is_fetched_by_its_address(
    page: Page, stack: Stack, shown: dict[str, bytes], watch: Watch
) -> None:
    open_search_page(page)
    entry = page.locator("#results a.mount").first.get_attribute("href")
    name = page.locator("#results .name").first.text_content()
    assert name in shown
    page.goto(f"/?collection={COLLECTION}&url={stack.url}{entry}")
    expect(page.locator("#found-title")).to_have_text("More like original")
    assert result_names(page)[0] == name
    assert page.locator("#query").evaluate("(image) => image.naturalWidth") == 200
    drag_address(page, "http://10.0.0.1/picture.jpg")
    expect(page.locator("#results")).to_contain_text("it is no public address")
    expect(page.locator("#query")).to_be_hidden()
    watch.expect_status(422)
    drag_address(page, f"{stack.url}{entry}")  # an image of the collection needs not be fetched
    expect(page.locator("#found-title")).to_have_text(f"More like {name}")


def test_a_detail_is_drawn_by_keyboard_and_by_pointer_and_has_an_address(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.locator("[data-detail]").first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#detail")
    expect(page.locator("#detail-box")).to_have_text("100 × 75 pixels at 50, 38 of 200 × 150")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#detail-box")).to_have_text("100 × 78 pixels at 47, 38 of 200 × 150")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("#found-title")).to_contain_text("More like a detail of")
    expect(page).to_have_url(re.compile(r"box=47%2C38%2C100%2C78"))
    found = first_names(page)
    assert found[0] in shown
    page.reload()
    expect(page.locator("#found-title")).to_contain_text("More like a detail of")
    assert first_names(page) == found
    page.locator("#to-detail").click()
    area = page.locator("#detail-canvas").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + 2, area["y"] + 2)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.up()
    page.get_by_role("button", name="Search this detail").click()
    expect(page).not_to_have_url(re.compile("box=47"))
    page.go_back()
    expect(page).to_have_url(re.compile("box=47"))
    assert first_names(page) == found


def test_a_detail_of_a_file_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    open_search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 405.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    page.locator("#to-detail").click()
    page.get_by_role("button", name="Search this detail").click()
    expect(page.locator("#found-title")).to_have_text("More like a detail of mine.jpg")
    page.locator("#to-detail").click()
    page.get_by_role("button", name="Search the whole picture").click()
    expect(page.locator("#found-title")).to_have_text("More like mine.jpg")
    assert result_names(page)[0] == "work 405.jpg"


@pytest.mark.usefixtures("shown")
def test_everything_is_done_by_keys_alone(page: Page) -> None:
    open_search_page(page)
    sheet, title = page.locator("#shortcuts"), page.locator("#found-title")
    page.keyboard.press("?")
    expect(sheet).to_be_visible()
    page.keyboard.press("j")  # no key but the sheet's own acts behind it
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    assert page.evaluate("document.activeElement.closest('.work')") is None
    for key in "jjk":
        page.keyboard.press(key)
    focused = page.locator(".mount:focus")
    expect(focused).to_have_attribute("data-name", result_names(page)[0])
    page.keyboard.press("m")
    expect(title).to_contain_text("More like")
    names = result_names(page)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("+")
    page.keyboard.press("j")
    page.keyboard.press("-")
    expect(page.locator("#marked")).to_contain_text("2 images are examples.")
    page.keyboard.press("s")
    expect(page.locator("#results [data-example] img")).to_have_count(2)
    assert [image.get_attribute("alt") for image in page.locator("#results [data-example] img").all()] == names[1:3]
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#lightbox")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("j?m")
    expect(page.get_by_label("Words in records")).to_have_value("j?m")
    expect(sheet).to_be_hidden()

    # Who speaks to the computer, or does not want them, turns them off.
    page.get_by_role("button", name="Keyboard shortcuts").click()
    sheet.get_by_label("These keys are on").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("html.scripted")).to_have_count(1)
    page.locator("h1").click()
    page.keyboard.press("?")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('.work')") is None
    expect(sheet).to_be_hidden()

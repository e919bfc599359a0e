"""The pages in a browser: searching, the way back, the lightbox, uploads, deletion, phones, and hostile names."""

import base64
import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.browser.conftest import COLLECTION, Watch
from tests.support.stack import Stack
from tests.support.web_client import Client, picture

HOSTILE = "'><img src=x onerror=document.title='owned'><script>document.title='owned'.jpg"


def jpeg(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def names(page: Page) -> list[str]:
    return [name.strip() for name in page.locator("#results .name").all_text_contents()]


def drop(page: Page, *files: tuple[str, bytes]) -> None:
    """Drop files onto the page as a hand would: enter, over, drop."""
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


def search_page(page: Page) -> None:
    page.goto(f"/?collection={COLLECTION}")
    page.wait_for_load_state("networkidle")


# Search


def test_a_chosen_file_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 405.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert names(page)[0] == "work 405.jpg"
    assert len(names(page)) == 12
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


def test_a_file_dropped_anywhere_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    search_page(page)
    drop(page, ("mine.jpg", shown["work 407.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert names(page)[0] == "work 407.jpg"
    expect(page.locator("#drop")).to_be_hidden()


def test_a_pasted_picture_is_searched_for(page: Page, shown: dict[str, bytes]) -> None:
    search_page(page)
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
    assert names(page)[0] == wanted
    assert names(page)[0] in shown


def test_pasted_text_is_no_picture(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    search_page(page)
    page.evaluate("navigator.clipboard.writeText('a picture of a cat')")
    page.locator("h1").click()
    page.keyboard.press("ControlOrMeta+v")
    expect(page.locator("#results .notice")).to_contain_text("The clipboard holds no picture")


def test_more_like_this_and_the_way_back(page: Page, shown: dict[str, bytes]) -> None:
    search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 402.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    first = names(page)
    page.locator("#results [data-more-like-this]").nth(1).click()
    expect(page.locator("#found-title")).to_have_text(f"More like {first[1]}")
    assert re.search(rf"\?collection={COLLECTION}&id=\d+$", page.url)
    second = names(page)
    assert second[0] == first[1]
    expect(page.locator("#results .self")).to_have_count(1)
    page.locator("#results [data-more-like-this]").first.click()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[1]}")
    page.go_back()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[0]}")
    assert names(page) == second
    page.go_back()
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert names(page) == first
    expect(page.locator("#query")).to_have_attribute("alt", "mine.jpg")
    page.go_back()
    expect(page.locator("#found-title")).to_have_text("Or begin with one of these images")
    expect(page.locator("#query")).to_be_hidden()
    page.go_forward()
    page.go_forward()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[0]}")
    page.reload()
    expect(page.locator("#found-title")).to_have_text(f"More like {second[0]}")
    assert names(page) == second


def test_options_are_kept_and_search_again(page: Page, shown: dict[str, bytes]) -> None:
    search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 403.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    page.get_by_label("LSH").check(force=True)
    expect(page.locator("#results .facts")).to_contain_text("LSH index")
    page.get_by_label("Euclidean").check(force=True)
    expect(page.locator("#results .facts")).to_contain_text("Euclidean")
    page.get_by_label("Results").select_option("24")
    expect(page).to_have_url(f"/?collection={COLLECTION}&k=24&mode=lsh&metric=euclidean")
    assert names(page)[0] == "work 403.jpg"
    page.get_by_label("Exact").check(force=True)
    expect(page).to_have_url(f"/?collection={COLLECTION}&k=24&mode=exact&metric=euclidean")
    expect(page.locator("#results .facts")).to_contain_text("15 of 15")
    assert len(names(page)) == 15


@pytest.mark.parametrize(
    ("data", "words"), [(b"no picture at all", "this is a text file"), (picture(1)[:900], "cut short"), (b"", "empty")]
)
def test_a_file_that_is_no_picture_is_explained(
    page: Page, watch: Watch, shown: dict[str, bytes], data: bytes, words: str
) -> None:
    assert shown
    search_page(page)
    page.set_input_files("#image", jpeg("broken.jpg", data))
    expect(page.locator("#results .notice")).to_contain_text(words)
    expect(page.locator("#status")).to_contain_text(words)
    watch.errors[:] = [error for error in watch.errors if "422" not in error]  # the browser notes the refusal


def test_another_collection_can_be_chosen(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    page.goto("/")
    chooser = page.get_by_label("Collection", exact=True)
    chooser.select_option(COLLECTION)
    page.wait_for_url(f"**/?collection={COLLECTION}")
    assert set(names(page)) <= shown.keys()


def test_without_scripts_the_form_still_searches(browser: Browser, stack: Stack, shown: dict[str, bytes]) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=stack.url)
    page = context.new_page()
    page.goto(f"/?collection={COLLECTION}")
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 404.jpg"]))
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    assert names(page)[0] == "work 404.jpg"
    page.locator("#results [data-more-like-this]").first.click()
    expect(page.locator("#found-title")).to_have_text("More like work 404.jpg")
    context.close()


# The lightbox


def test_the_lightbox_obeys_the_keyboard(page: Page, shown: dict[str, bytes]) -> None:
    search_page(page)
    page.set_input_files("#image", jpeg("mine.jpg", shown["work 401.jpg"]))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    found = names(page)
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
    search_page(page)
    wanted = names(page)[2]
    page.locator("#results .mount").nth(2).click()
    page.locator("#lightbox").get_by_role("link", name="More like this").click()
    expect(page.locator("#lightbox")).to_be_hidden()
    expect(page.locator("#found-title")).to_have_text(f"More like {wanted}")


# Collections


def test_an_upload_shows_its_progress_and_what_was_not_taken(page: Page) -> None:
    page.goto("/collections")
    page.get_by_label("Name").fill("web-upload")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("h1")).to_have_text("web-upload")
    expect(page.locator("#overview")).to_contain_text("artseek ingest FOLDER --collection web-upload")
    page.get_by_label("Label of the images").fill("fresh")
    files = [jpeg(f"new {number}.jpg", picture(number)) for number in range(500, 506)]
    cut = jpeg("cut.jpg", picture(506)[:900])
    page.set_input_files("#files", [*files, jpeg("notes.jpg", b"shopping list"), cut, files[0]])
    expect(page.locator("#progress-text")).to_have_text("6 added, 1 already there, 2 not taken")
    expect(page.locator("#refusals li")).to_have_count(2)
    expect(page.locator("#refusals")).to_contain_text(re.compile(r"notes\.jpg this is a text file"))
    expect(page.locator("#refusals")).to_contain_text(re.compile(r"cut\.jpg .*cut short"))
    expect(page.locator("#gallery .work")).to_have_count(6)
    expect(page.locator("#overview .classes")).to_contain_text("fresh")
    assert page.locator("#bar").evaluate("(bar) => bar.value === bar.max")
    page.get_by_label("Label of the images").fill("")
    drop(page, ("seventh.jpg", picture(507)))
    expect(page.locator("#progress-text")).to_have_text("1 added")
    expect(page.locator("#gallery .work")).to_have_count(7)
    expect(page.locator("#gallery .work").first).to_contain_text("seventh.jpg")


def test_an_upload_of_which_nothing_can_be_taken(page: Page, watch: Watch) -> None:
    page.goto("/collections/web-nothing")
    page.set_input_files("#files", [jpeg("a.jpg", b"text"), jpeg("b.jpg", b"")])
    expect(page.locator("#progress-text")).to_have_text("0 added, 2 not taken")
    expect(page.locator("#refusals li")).to_have_count(2)
    watch.errors[:] = [error for error in watch.errors if "422" not in error]  # the browser notes the refusal


def test_an_image_is_deleted_after_a_question(page: Page, client: Client) -> None:
    client.upload("web-delete", [(f"old {number}.jpg", picture(number)) for number in range(520, 523)])
    page.goto("/collections/web-delete")
    expect(page.locator("#gallery .work")).to_have_count(3)
    page.get_by_role("button", name="Delete old 521.jpg").click()
    dialog = page.locator("#confirm")
    expect(dialog).to_contain_text("old 521.jpg")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#gallery .work")).to_have_count(3)
    page.get_by_role("button", name="Delete old 521.jpg").click()
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.locator("#gallery .work")).to_have_count(2)
    expect(page.locator("#count")).to_have_text("2")
    page.reload()
    expect(page.get_by_text("old 521.jpg")).to_have_count(0)


def test_a_collection_is_shown_by_class_and_in_pages(page: Page, client: Client) -> None:
    client.upload(
        "web-many", [(f"{number}.jpg", picture(number, size=(40, 30))) for number in range(600, 650)], label="a"
    )
    client.upload("web-many", [("other.jpg", picture(651))], label="b")
    client.wait_for("web-many", 51)
    page.goto("/collections/web-many")
    expect(page.locator("#count")).to_have_text("51")
    expect(page.locator("#gallery .work")).to_have_count(48)
    page.get_by_role("link", name="Earlier").click()
    expect(page.locator("#gallery .work")).to_have_count(3)
    expect(page.locator(".pager")).to_contain_text("Page 2 of 2")
    page.locator(".classes").get_by_role("link", name="b").click()
    expect(page.locator("#gallery .work")).to_have_count(1)
    expect(page.locator("#gallery-title")).to_have_text("b 1")


# Whatever the screen and whoever the visitor


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen(
    browser: Browser,
    stack: Stack,
    shown: dict[str, bytes],
    client: Client,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    long = [("x" * 180 + ".jpg", picture(700))]
    client.upload("web-long-" + "x" * 54, long, label="y" * 200)
    name = "web-long-" + "x" * 54
    image = client.wait_for(name, 1)[0]["id"]
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        base_url=stack.url,
        color_scheme=scheme,
    )
    page = context.new_page()
    assert shown
    for path in (
        "/",
        f"/?collection={COLLECTION}",
        f"/?collection={name}&id={image}",
        "/collections",
        f"/collections/{name}",
        f"/collections/{COLLECTION}",
        "/collections/web-none-yet",
        "/nothing/" + "z" * 200,
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()


def test_everything_has_a_name_and_the_focus_can_be_seen(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    for path in (f"/?collection={COLLECTION}", f"/collections/{COLLECTION}", "/collections"):
        page.goto(path)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select")].filter((element) =>
                !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length
                  || element.querySelector("img[alt]"))).map((element) => element.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("img:not([alt])").count() == 0
        page.keyboard.press("Tab")
        skip = page.locator(":focus")
        expect(skip).to_have_text("Skip to the content")
        expect(skip).to_be_in_viewport()
        for _ in range(6):
            page.keyboard.press("Tab")
            outline = page.evaluate(
                """() => {
                    const focused = document.activeElement;
                    return [focused, focused.closest(".frame"), focused.nextElementSibling]
                        .some((element) => element && getComputedStyle(element).outlineStyle === "solid");
                }"""
            )
            assert outline, page.evaluate("document.activeElement.outerHTML")


def test_names_and_labels_are_text_and_nothing_else(page: Page, watch: Watch, client: Client) -> None:
    data = picture(710)
    label = "\"'><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
    client.upload("web-hostile", [(HOSTILE, data), ("plain.jpg", picture(711))], label=label)
    for path in ("/collections/web-hostile", "/?collection=web-hostile"):
        page.goto(path)
        hostile = page.locator(".work").filter(has=page.locator(".name", has_text="onerror"))
        expect(hostile).to_have_count(1)
        hostile.locator(".mount").click()
        expect(page.locator("#lightbox .title")).to_contain_text("onerror")
        page.keyboard.press("Escape")
    hostile.locator("[data-more-like-this]").click()
    expect(page.locator("#found-title")).to_contain_text("onerror")
    page.set_input_files("#image", jpeg(HOSTILE, data))
    expect(page.locator("#found-title")).to_have_text("Most similar first")
    page.goto("/collections/web-hostile")
    page.set_input_files("#files", jpeg(HOSTILE, b"text"))
    expect(page.locator("#refusals li")).to_have_count(1)
    hostile.locator("[data-delete]").click()
    expect(page.locator("#confirm-name")).to_contain_text("onerror")
    assert "owned" not in page.title()
    assert page.locator("#gallery script, #results script, main img[src='x']").count() == 0
    watch.errors[:] = [error for error in watch.errors if "422" not in error]  # the browser notes the refusal


def test_pictures_keep_their_place_while_they_load(page: Page, shown: dict[str, bytes]) -> None:
    assert shown
    page.add_init_script(
        """window.shifts = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
        }).observe({ type: "layout-shift", buffered: true });"""
    )
    for path in (f"/?collection={COLLECTION}", f"/collections/{COLLECTION}", "/collections"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.shifts") < 0.01

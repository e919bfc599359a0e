"""The page of duplicates: looking for them, judging, what is not the same, merging; by mouse, keyboard and phone."""

import io
import re
from itertools import combinations

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageOps
from playwright.sync_api import Page, expect

from tests.support.eventually import eventually
from tests.support.pictures import detailed
from tests.support.web_client import Client

NAME = "web-attic"
JUDGE = "POST /collections/{name}/duplicates/verdicts"


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


@pytest.fixture(scope="module")
def attic(client: Client) -> str:
    """A collection with a group of three, a pair, and four pictures that are alone."""
    files = [(f"alone {number}.jpg", encoded(detailed(91_000 + number))) for number in range(4)]
    for seed, names in ((92_000, ("large", "small", "mirrored")), (93_000, ("red", "red small"))):
        image = detailed(seed)
        made = (encoded(image), encoded(image.resize((240, 180))), encoded(ImageOps.mirror(image).resize((300, 225))))
        files += [(f"{name}.jpg", each) for name, each in zip(names, made, strict=False)]
    client.upload(NAME, files)
    client.wait_for(NAME, len(files))
    return NAME


@pytest.mark.parametrize("width", [1280, 390])
def test_duplicates_are_found_compared_judged_and_merged_on_the_page(
    page: Page, client: Client, attic: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"/collections/{attic}")
    page.get_by_role("link", name="Duplicates").click()
    page.get_by_role("button", name=re.compile("Look ")).click()
    groups = page.locator(".duplicates-group")
    expect(page.locator(".under-way")).to_have_count(0)  # the page follows the job by itself
    expect(groups).to_have_count(2)
    first = groups.first
    expect(first).to_contain_text("Keep large.jpg: most pixels: 480 × 360.")
    expect(first.locator(".work").filter(has_text="mirrored.jpg").locator(".ways")).to_contain_text("resized, mirrored")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    first.get_by_role("button", name="Compare mirrored.jpg with large.jpg").click()
    dialog = page.get_by_role("dialog", name="The same picture")
    expect(dialog).to_contain_text("The image to keep")
    expect(dialog.locator("#comparison-laid image")).to_have_count(2)
    page.keyboard.press("Escape")

    page.get_by_text("How sure is that?").click()
    share = page.locator("#share")
    expect(share).to_contain_text("4 pairs are shown. Judge some")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    expect(page.locator("#threshold-shown")).to_have_text("1.00")
    expect(share).not_to_contain_text("4 pairs")
    page.keyboard.press("Home")
    expect(share).to_contain_text("4 pairs are shown")
    page.get_by_role("button", name="Judge pairs").click()
    judging = page.get_by_role("dialog", name="Do both show the same?")
    for judged in range(1, 5):
        expect(judging).to_have_attribute("aria-busy", "false")
        expect(judging.locator("figcaption").first).to_contain_text("×")
        page.keyboard.press("s")
        expect(share).to_contain_text(
            "by a pair that was judged" if judged == 1 else f"by {judged} pairs that were judged"
        )
    expect(judging).to_be_hidden()
    expect(share).to_contain_text("100 % of them are duplicates: 100 to 100 %")
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()

    ids = [image["id"] for image in client.wait_for(attic, 9)]
    for a, b in combinations(ids, 2):
        client.call(JUDGE, name=attic, value={"a": a, "b": b, "verdict": None})


def test_what_is_not_the_same_stays_apart_and_what_is_merged_leaves(page: Page, client: Client, attic: str) -> None:
    client.finished(client.call("POST /collections/{name}/duplicates", name=attic).json["job"])
    page.goto(f"/collections/{attic}/duplicates")
    groups = page.locator(".duplicates-group")
    first = groups.first
    first.get_by_role("button", name="mirrored.jpg is not the same").press("Enter")
    expect(page.locator("#status")).to_have_text("mirrored.jpg is not shown with the others again.")
    page.reload()
    expect(groups.first.locator(".work")).to_have_count(2)
    second = groups.filter(has_text="red small.jpg")
    second.get_by_label("Keep red small.jpg").check()
    second.get_by_role("button", name=re.compile("Merge group")).click()
    merge = page.get_by_role("dialog", name="Merge this group?")
    expect(merge).to_contain_text("red small.jpg gets the paths")
    merge.get_by_label("The others then go to the trash").check()
    merge.get_by_role("button", name="Merge", exact=True).click()
    expect(groups).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("red small.jpg has all that was known of the others")
    eventually(
        lambda: {image["name"] for image in client.wait_for(attic, 1)}, until=lambda names: "red.jpg" not in names
    )

"""The map of a collection in a browser: made, moved about on, coloured, ticked by a lasso, listed for the keyboard."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from shared.state import State, connect
from shared.state.job_ids import new_job_id
from tests.browser.actions import pinch
from tests.browser.conftest import COLLECTION
from tests.support.eventually import eventually
from tests.support.stack import Stack
from tests.support.web_client import Client

MANY = 100_000


@pytest.fixture
def mapped(client: Client, shown: dict[str, bytes]) -> int:
    """The number of images on the map of the collection."""
    made = client.call("POST /collections/{name}/map", name=COLLECTION).json
    job = client.finished(made["job"])
    assert job["affected"] == len(shown), job
    return len(shown)


def open_map(page: Page) -> None:
    page.goto(f"/collections/{COLLECTION}/map")
    expect(page.locator("#map[data-drawn]")).to_be_visible()


def test_a_map_is_made_and_shown(page: Page, client: Client, shown: dict[str, bytes]) -> None:
    name = "web-map"
    client.upload(name, list(shown.items())[:6], label="shapes")
    client.wait_for(name, 6)
    page.goto(f"/collections/{name}")
    page.get_by_role("link", name="Map").click()
    page.get_by_role("button", name="Make the map").click()
    expect(page.locator("#map[data-drawn='6']")).to_be_visible()
    expect(page.locator("#map-count")).to_have_text("6 images in view.")
    expect(page.locator("#map-thumbnails img").first).to_be_visible()
    expect(page.locator("#map-legend li")).to_have_text(["shapes 6"])


def test_two_fingers_zoom_a_map_and_one_moves_it(browser: Browser, stack: Stack, mapped: int) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 700}, base_url=stack.url, has_touch=True)
    page = context.new_page()
    open_map(page)
    items = page.locator("#map-list li")
    expect(items).to_have_count(mapped)
    view = page.locator("#map-view")
    view.evaluate("(view) => view.scrollIntoView({ block: 'center' })")
    apart = [10, 30, 60, 100, 140]
    before = page.evaluate("scrollY")
    for _ in range(2):
        pinch(view, apart)
    eventually(items.count, until=lambda count: count < mapped)
    assert page.evaluate("[scrollY, visualViewport.scale]") == [before, 1]  # the map zooms, and not the page
    for _ in range(3):
        pinch(view, apart[::-1])
    expect(items).to_have_count(mapped)
    box = view.bounding_box()
    assert box is not None
    touch = page.context.new_cdp_session(page)
    for _ in range(4):  # until the images have left the view
        for kind, share in (("touchStart", 0.1), ("touchMove", 0.5), ("touchMove", 0.9)):
            finger = {"x": box["x"] + share * box["width"], "y": box["y"] + share * box["height"], "id": 0}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [finger]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    eventually(items.count, until=lambda count: count < mapped)
    context.close()


def test_keys_alone_move_tick_and_open(page: Page, mapped: int) -> None:
    open_map(page)
    expect(page.locator("#map-list li")).to_have_count(mapped)
    found = Axe().run(page)
    assert not found.violations_count, found.generate_report()
    page.locator("#map-view").focus()
    for _ in range(6):
        page.keyboard.press("+")
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    eventually(lambda: page.locator("#map-list li").count(), until=lambda count: count < mapped)
    page.keyboard.press("0")
    expect(page.locator("#map-list li")).to_have_count(mapped)
    first = page.locator("#map-list li").first
    first.get_by_role("checkbox").press("Space")
    expect(page.locator("#tray-count")).to_have_text("1 image ticked")
    page.get_by_role("button", name="Tick all in view").press("Enter")
    expect(page.locator("#tray-count")).to_have_text(f"{mapped} images ticked")
    expect(page.locator("#map-said")).to_have_text(f"{mapped} images ticked.")
    first.get_by_role("link").press("Enter")
    expect(page.locator(".one-image")).to_be_visible()


def draw_lasso(page: Page, share: float) -> None:
    """Draw a lasso around the left part of the view, or all of it."""
    view = page.locator("#map-view")
    view.evaluate("(view) => view.scrollIntoView({ block: 'end' })")
    box = view.bounding_box()
    assert box is not None
    left, top, bottom = box["x"] + 3, box["y"] + 3, box["y"] + box["height"] - 3
    right = left + share * (box["width"] - 6)
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(*corner, steps=3)
    page.mouse.up()


def test_a_lasso_ticks_what_it_encloses(page: Page, mapped: int) -> None:
    open_map(page)
    page.get_by_role("button", name="Lasso").click()
    draw_lasso(page, 0.5)
    half = page.evaluate("Number(document.getElementById('tray-count').textContent.split(' ')[0] || 0)")
    assert 0 < half < mapped
    page.get_by_role("button", name="Untick all").click()
    draw_lasso(page, 1)
    expect(page.locator("#tray-count")).to_have_text(f"{mapped} images ticked")


def test_colours_follow_a_field_and_a_phone_has_room(browser: Browser, stack: Stack, mapped: int) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 700}, base_url=stack.url)
    page = context.new_page()
    open_map(page)
    expect(page.locator("#map-legend li")).to_have_text(["shapes 8", "forms 7"])
    page.get_by_label("Colour by").select_option("")
    expect(page.locator("#map-legend li")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert mapped
    context.close()


def test_a_map_under_way_is_cancelled_on_its_page(page: Page, client: Client, stack: Stack, mapped: int) -> None:
    jobs = State.of(connect(stack.settings.index_url.get_secret_value())).jobs
    job = new_job_id()
    jobs.create(job, COLLECTION, kind="map")  # which no worker has come to
    assert mapped
    page.goto(f"/collections/{COLLECTION}/map")
    expect(page.locator("#map-making")).to_contain_text("The map is being made.")
    page.get_by_role("button", name=f"Cancel the job {job}").click()
    assert client.call("GET /jobs/{id}", id=job).json["state"] in {"running", "cancelled"}
    assert jobs.cancelled(job)
    jobs.forget(job)


AS_A_CARD = """
    const told = WebGL2RenderingContext.prototype.getParameter;
    WebGL2RenderingContext.prototype.getParameter = function (name) {
        return name === 0x9246 ? "a graphics card" : told.call(this, name);
    };
    const take = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, options) {
        return take.call(this, kind, { ...options, failIfMajorPerformanceCaveat: false });
    };
"""


@pytest.mark.parametrize("painter", ["webgl2", "2d"])
def test_a_hundred_thousand_points_are_drawn_and_moved(page: Page, mapped: int, painter: str) -> None:
    if painter == "webgl2":
        page.add_init_script(AS_A_CARD)  # no test has a graphics card
    ids = list(range(1, MANY + 1))
    answer = {
        "model": "m", "model_version": 1, "created": "2026-11-29T00:00:00Z", "fitted": 20_000, "missing": 0,
        "ids": ids, "x": [number * 7919 % 65_536 for number in ids], "y": [number * 104_729 % 65_536 for number in ids],
    }  # fmt: skip

    def instead(route: Route) -> None:
        route.fulfill(json=answer)

    page.route("**/map", lambda route: instead(route) if "/api/" in route.request.url else route.continue_())
    of = {"field": "label", "values": ["even"], "counts": [MANY // 2], "of": [number % 2 - 1 for number in ids]}
    page.route("**/map/values*", lambda route: route.fulfill(json=of))
    page.route("**/thumbnail", lambda route: route.fulfill(status=204))
    page.goto(f"/collections/{COLLECTION}/map")
    expect(page.locator(f"#map[data-drawn='{MANY}']")).to_be_visible()
    expect(page.locator("#map-count")).to_contain_text("100,000 images in view.")
    assert page.locator("#map-canvas").evaluate("(canvas, kind) => !!canvas.getContext(kind)", painter)
    before = int(page.locator("#map").get_attribute("data-frames") or 0)
    page.locator("#map-view").focus()
    page.keyboard.press("ArrowRight")
    eventually(lambda: int(page.locator("#map").get_attribute("data-frames") or 0), until=lambda now: now > before)
    # The frame that is drawn after the key has both colours.
    colours = page.evaluate(
        """() => new Promise((resolve) => {
            const canvas = document.getElementById("map-canvas");
            const copy = new OffscreenCanvas(200, 200).getContext("2d", { willReadFrequently: true });
            document.getElementById("map-view").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
            requestAnimationFrame(() => {
                copy.drawImage(canvas, canvas.width / 2 - 100, canvas.height / 2 - 100, 200, 200, 0, 0, 200, 200);
                const { data } = copy.getImageData(0, 0, 200, 200);
                const seen = new Set();
                for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255) seen.add(data[at]);
                resolve([...seen]);
            });
        })"""
    )
    assert {0x97, 0xB9} <= set(colours)
    assert mapped

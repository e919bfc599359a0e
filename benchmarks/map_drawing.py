"""How many frames a second the map of a collection draws while it moves, in a browser without a graphics card.

The page is that of a running system, whose collection has a map; it is given made-up points in place of its own. Each
way to draw takes its turn, again and again, so that whatever else the machine does disturbs both alike.

    python -m benchmarks.map_drawing http://127.0.0.1:8080 --collection art [--points 100000] [--seconds 4] [--turns 3]
"""

import argparse
import os
import shutil
import statistics
import sys
from typing import Any, Final

import numpy as np
from playwright.sync_api import Browser, sync_playwright

_BROWSERS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = ["--no-sandbox", "--disable-gpu"]
_AS_A_CARD: Final = """
    const told = WebGL2RenderingContext.prototype.getParameter;
    WebGL2RenderingContext.prototype.getParameter = function (name) {
        return name === 0x9246 ? "a graphics card" : told.call(this, name);
    };
    const take = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, options = {}) {
        delete options.failIfMajorPerformanceCaveat;
        return take.call(this, kind, options);
    };
"""
_PAINTERS: Final = {"pixels of a 2D canvas": "", "WebGL by the processor": _AS_A_CARD}
# Arrow keys move the map with each frame; where frames are slow, there are fewer of them.
_MOVE: Final = """(seconds) => new Promise((resolve) => {
    const view = document.getElementById("map-view");
    const press = (key) => view.dispatchEvent(new KeyboardEvent("keydown", { key }));
    let [frames, start] = [0, null];
    const step = (now) => {
        start ??= now;
        if (now - start > 1000 * seconds) return resolve((1000 * (frames - 1)) / (now - start));
        frames += 1;
        press(frames % 20 < 10 ? "ArrowLeft" : "ArrowRight");
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})"""


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of the page of a running system")
    parser.add_argument("--collection", default="default")
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    executable = os.environ.get("ARTSEEK_CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        print("no browser: install Chromium, or name one in ARTSEEK_CHROMIUM", file=sys.stderr)
        return 1
    answer = _made_up(options.points)
    found: dict[str, list[float]] = {painter: [] for painter in _PAINTERS}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        for _ in range(options.turns):
            for painter, script in _PAINTERS.items():
                found[painter].append(_frames(browser, options, answer, script))
        browser.close()
    for painter, rates in found.items():
        print(f"{painter}: {statistics.median(rates):.0f} frames a second ({min(rates):.0f} to {max(rates):.0f})")
    return 0


def _made_up(count: int) -> dict[str, Any]:
    """Return a map of so many points: groups of many sizes, as maps have."""
    chance = np.random.default_rng(0)
    groups, sizes = chance.uniform(0.1, 0.9, (200, 2)), chance.uniform(0.005, 0.06, 200)
    of = chance.integers(0, 200, count)
    places = np.clip(groups[of] + sizes[of, None] * chance.normal(size=(count, 2)), 0, 1)
    x, y = (np.rint(65_535 * places).astype(int)).T.tolist()
    return {
        "model": "m",
        "model_version": 1,
        "created": "2026-11-29T00:00:00Z",
        "fitted": count,
        "missing": 0,
        "ids": list(range(1, count + 1)),
        "x": x,
        "y": y,
    }


def _frames(browser: Browser, options: argparse.Namespace, answer: dict[str, Any], script: str) -> float:
    """Return the frames a second of a turn."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    if script:
        page.add_init_script(script)
    path = f"/api/v1/collections/{options.collection}/map"
    page.route(f"**{path}", lambda route: route.fulfill(json=answer))
    of = [place % 9 for place in answer["ids"]]
    values = {"field": "label", "values": list("abcdefghi"), "counts": [1] * 9, "of": of}
    page.route(f"**{path}/values*", lambda route: route.fulfill(json=values))
    page.route("**/thumbnail", lambda route: route.fulfill(status=204))
    page.goto(f"{options.url.rstrip('/')}/collections/{options.collection}/map")
    page.wait_for_selector(f"#map[data-drawn='{options.points}']")
    page.wait_for_selector("#map-legend li")
    rate: float = page.evaluate(_MOVE, options.seconds)
    context.close()
    return rate


if __name__ == "__main__":
    sys.exit(main())

"""The pages of quality in a browser: tables against the JSON, charts, pictures, judging."""

import json
import re
import time
from typing import Any

from playwright.sync_api import Page, expect

from shared.evaluation.evaluations import Evaluations
from shared.evaluation.grids import grid_settings
from shared.messaging.celery_app import make_app
from shared.messaging.task_queue import EVALUATE
from shared.state import connect
from shared.state.recall_log import HourOfRecall, RecallLog, hour_of
from shared.storage import evaluation_layout
from shared.storage.object_store import ObjectStore
from tests.browser.actions import all_pictures, drawn, row
from tests.browser.conftest import Watch
from tests.browser.evaluated import CLASSES, HOSTILE, NAME, PATHS, K, Report, address, figures
from tests.support.eventually import PATIENCE_S, eventually
from tests.support.stack import Stack
from tests.support.web_client import Client


def test_tables_and_charts_say_what_the_evaluation_found(page: Page, report: Report, client: Client) -> None:
    run = next(one for one in report["runs"] if one["id"] == "lsh-cosine-all")
    page.goto(address(report))
    expect(page.locator("#queries")).to_have_text("13")
    expect(page.locator("#rejected")).to_contain_text(HOSTILE)
    assert drawn(page) == {
        "by-run": 3 * 8,
        "by-class": 3 * 3,
        "confusion": len(CLASSES) * page.locator("#confusion + details thead th:not(:first-child)").count(),
        "tradeoff": 2 + 6,
        "grid-1": 6,
        "latency": 3 * 8,
    }
    runs = page.locator("#runs")
    assert runs.locator("tbody tr").count() == len(report["runs"]) == 8
    for place, one in enumerate(report["runs"]):
        cells = row(runs, place)
        assert cells[1:4] == figures(one)
        assert cells[4:6] == [f"{one['macro']['p_at_k']:.3f}", f"{one['macro']['ap_at_k']:.3f}"]
        assert cells[6] == f"{one['candidates']:,.0f}"
    low, high = run["interval"]["ap_at_k"]
    span = page.locator("[data-run=lsh-cosine-all] .span").nth(1)
    expect(span).to_have_text(f"{low:.3f} to {high:.3f}")
    for place, (label, one) in enumerate(run["per_class"].items()):
        cells = row(page.locator("#classes"), place)
        assert cells[:6] == [label, str(one["queries"]), str(one["relevant"]), *figures(one)]
    page.locator("#confusion + details summary").click()
    table = page.locator("#confusion + details table")
    columns = table.locator("thead th").all_text_contents()[1:]
    for place, label in enumerate(sorted(CLASSES)):
        cells = row(table, place)
        counts = run["confusion"][label]
        assert cells == [label, *(str(counts.get("" if hit == "no label" else hit, 0)) for hit in columns)]
    settings = page.locator("#compared-runs tbody tr[data-run^=grid]")
    assert settings.count() == len(report["grid"]) == 6
    for place, setting in enumerate(report["grid"]):
        one = next(one for one in setting["runs"] if one["id"] == f"grid{place}-cosine-all")
        cells = row(page.locator("#compared-runs"), 2 + place)
        assert [cells[2], cells[6], cells[7]] == [figures(one)[2], *figures(one)[:2]]
        assert cells[9] == str(setting["buckets"])
    page.locator("#grid-1 + details summary").click()
    shown = page.locator("#grid-1 + details tbody td").all_text_contents()
    wanted = {(one["index"]["tables"], one["index"]["hashes"]): figures(one["runs"][0])[2] for one in report["grid"]}
    assert shown == [wanted[tables, hashes] for tables in (2, 4) for hashes in (2, 4, 6)]
    page.get_by_role("link", name="precision", exact=True).click()
    expect(page.locator("#grid-1 + details tbody td").first).to_have_text(figures(report["grid"][0]["runs"][0])[0])
    api = page.get_by_role("link", name="As JSON").get_attribute("href") or ""
    assert client.send("GET", api).json == json.loads(json.dumps(report))


def test_the_worst_queries_come_with_their_pictures(page: Page, report: Report, client: Client) -> None:
    page.goto(address(report, PATHS["exact"]))
    asked = {"run": PATHS["exact"], "limit": 100}
    rows = client.call("GET /evaluations/{id}/queries", id=report["id"], query=asked).json["queries"]
    rows.sort(key=lambda one: (one["ap_at_k"], one["p_at_k"], one["query"]))
    items = page.locator(".answers > li")
    assert items.evaluate_all("(items) => items.map((item) => Number(item.dataset.query))") == [
        one["query"] for one in rows[:12]
    ]
    for place in (0, 11):
        right = [hit["label"] == rows[place]["label"] for hit in rows[place]["hits"]]
        assert (
            items.nth(place)
            .locator(".hit")
            .evaluate_all("(hits) => hits.map((hit) => hit.classList.contains('right'))")
            == right
        )
        assert items.nth(place).locator(".mark").all_text_contents() == [
            f"{'✓' if good else '✕'} {hit['label'] or 'no label'}"
            for good, hit in zip(right, rows[place]["hits"], strict=True)
        ]
        expect(items.nth(place).locator(".figures")).to_contain_text(f"AP {rows[place]['ap_at_k']:.3f}")
    assert all_pictures(page, ".query img") == 12
    assert all_pictures(page, ".hit img") == sum(len(one["hits"]) for one in rows[:12])
    assert all_pictures(page, ".twins img") == 1
    expect(page.locator(".twins")).to_contain_text("twin.jpg")
    items.first.locator(".hit a").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#lightbox .facts")).to_contain_text("place 1, distance")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Next").click()
    assert page.locator(".answers > li").count() == 1
    expect(page.locator(".answers > li")).to_have_attribute("data-query", str(rows[12]["query"]))


def test_copies_stand_beside_their_queries(page: Page, report: Report) -> None:
    page.goto(address(report, PATHS["exact"]))
    copies = report["query_set"]["copies"]
    assert sorted(copy["kind"] for copy in copies) == ["identical", "near"]
    near = next(copy for copy in copies if copy["kind"] == "near")
    assert near["mirrored"]
    expect(page.locator("#copies-title .number")).to_have_text("2")
    run = report["runs"][0]
    clean = run["without_copies"]
    assert clean["queries"] == report["queries"] - 2
    said = page.locator("#leakage")
    expect(said).to_contain_text("2 of the 13 queries have a copy among the images: 1 byte for byte")
    expect(said).to_contain_text(f"P@{K} is {clean['p_at_k']:.3f} instead of {run['p_at_k']:.3f}")
    assert all_pictures(page, ".copies img") == 2
    expect(page.locator(".copies li")).to_contain_text(f"likeness {near['similarity']:.3f}, mirrored")
    table = page.locator("#without-copies")
    for place, one in enumerate(report["runs"]):
        wanted = [one["p_at_k"], one["without_copies"]["p_at_k"], one["ap_at_k"], one["without_copies"]["ap_at_k"]]
        assert row(table, place)[1:] == [f"{value:.3f}" for value in wanted]
    page.locator("summary", has_text="All copies as a table").click()
    shown = [row(page.locator("#copies"), place) for place in range(2)]
    assert {(cells[0], cells[4]) for cells in shown} == {
        (copy["name"], copy["kind"] + (", mirrored" if copy["mirrored"] else "")) for copy in copies
    }
    page.locator(".copies a").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#lightbox .facts")).to_contain_text(f"likeness {near['similarity']:.3f}")
    page.keyboard.press("Escape")


def test_an_evaluation_from_before_copies_were_looked_for_is_shown(
    page: Page, stack: Stack, report: Report, client: Client
) -> None:
    store = ObjectStore.from_settings(stack.settings)
    evaluations, old = Evaluations(store), "0" * 20
    made = json.loads(store.get(evaluation_layout.evaluation_key(NAME, report["id"]))) | {"id": old}
    del made["query_set"]["copies"], made["query_set"]["unchecked"], made["format"]
    for run in [*made["runs"], *(run for setting in made["grid"] for run in setting["runs"])]:
        del run["without_copies"]
    store.put(
        evaluation_layout.evaluation_rows_key(NAME, old),
        store.get(evaluation_layout.evaluation_rows_key(NAME, report["id"])),
    )
    store.put(evaluation_layout.evaluation_key(NAME, old), json.dumps(made).encode(), "application/json")
    try:
        page.goto(f"/evaluations/{NAME}/{old}")
        expect(page.locator("#queries")).to_have_text("13")
        expect(page.locator(".twins img")).to_have_count(1)
        expect(page.locator("#copies-title")).to_have_count(0)
        assert client.call("GET /evaluations/{id}", id=old).json == made
        listed = client.call("GET /evaluations", query={"collection": NAME}).json["evaluations"]
        copied = {evaluation["id"]: evaluation["copied"] for evaluation in listed}
        assert (copied[old], copied[report["id"]]) == (None, 2)
    finally:
        evaluations.delete(NAME, old)


def test_two_runs_stand_side_by_side(page: Page, report: Report, client: Client) -> None:
    page.goto(address(report, PATHS["exact"]))
    page.get_by_label("its run").select_option("lsh-cosine-labelled")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_label("Run of B")).to_have_value("lsh-cosine-labelled")
    page.goto(f"/evaluations/compare?a={report['id']}&b={report['id']}&run_a={PATHS['exact']}&run_b={PATHS['grid']}")
    runs = [
        next(one for one in report["runs"] if one["id"] == PATHS["exact"]),
        next(one for one in report["grid"][0]["runs"] if one["id"] == PATHS["grid"]),
    ]
    for place, name in enumerate(("p_at_k", "ap_at_k", "recall_at_k")):
        values = [one[name] for one in runs]
        rise = f"{round(values[1], 12) - round(values[0], 12):+.3f}".replace("-", "−")
        assert row(page.locator("#both"), place)[1:] == [*(f"{value:.3f}" for value in values), rise]
    rows = [
        client.call("GET /evaluations/{id}/queries", id=report["id"], query={"run": run["id"], "limit": 100}).json
        for run in runs
    ]
    pairs = list(zip(rows[0]["queries"], rows[1]["queries"], strict=True))
    changed = {a["query"] for a, b in pairs if a["hits"] != b["hits"]}
    expect(page.locator("#changed-title .number")).to_have_text(str(len(changed)))
    expect(page.locator("#better")).to_have_text(str(sum(b["ap_at_k"] > a["ap_at_k"] for a, b in pairs)))
    expect(page.locator("#worse")).to_have_text(str(sum(b["ap_at_k"] < a["ap_at_k"] for a, b in pairs)))
    first, *_ = sorted(pairs, key=lambda pair: -abs(pair[1]["ap_at_k"] - pair[0]["ap_at_k"]))
    shown = page.locator(".pairs > li")
    expect(shown.first.locator(".figures").first).to_contain_text(f"AP {first[0]['ap_at_k']:.3f}")
    assert changed.issuperset(shown.evaluate_all("(items) => items.map((item) => Number(item.dataset.query))"))


def test_a_collection_is_evaluated_from_its_page(page: Page, report: Report, client: Client) -> None:
    page.goto(f"/collections/{NAME}")
    page.get_by_role("link", name="Quality").click()
    expect(page.locator("h1")).to_have_text(f"Quality of {NAME}")
    page.get_by_label("Queries", exact=True).select_option(NAME)
    expect(page.get_by_label("Images in the sample")).to_be_hidden()
    page.get_by_label("Hits that count").fill(str(K))
    page.get_by_role("button", name="Evaluate now").click()
    link = page.get_by_role("link", name="Look at it")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".lede")).to_contain_text(f"by the kept queries {NAME}")
    made = client.call("GET /evaluations", query={"collection": NAME}).json["evaluations"][0]
    assert made["query_set"]["digest"] == report["query_set"]["digest"]
    page.goto(f"/collections/{NAME}/quality")
    shown = page.locator("#evaluations tbody tr")
    assert [one.get_attribute("data-id") for one in shown.all()] == [made["id"], report["id"]]
    latest = next(run for run in made["runs"] if run["id"] == "lsh-cosine-all")
    assert row(page.locator("#evaluations"), 0)[-3:] == figures(latest)
    assert drawn(page)["by-class"] == 9
    ticks = page.locator("#over-time svg text").all_text_contents()
    assert [tick for tick in ticks if re.fullmatch(r"\d\d:\d\d", tick)]  # not years around evaluations of one hour
    page.get_by_role("link", name="exact, cosine, all images").click()
    assert row(page.locator("#evaluations"), 1)[-3:] == figures(report["runs"][0])
    page.locator("#over-time .plot").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#over-time [role=status]")).to_contain_text(f"P@{K} ")
    expect(page.locator("#over-time .tip")).to_be_visible()
    page.keyboard.press("Enter")  # the point leads to its evaluation
    page.wait_for_url(f"**/evaluations/{NAME}/*")


def test_a_grid_is_evaluated_from_the_page(page: Page, watch: Watch, report: Report, client: Client) -> None:
    assert report
    page.goto(f"/collections/{NAME}/quality")
    field = page.get_by_label("Grid, as JSON")
    expect(field).to_be_hidden()
    page.locator("summary", has_text="Compare settings").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Images in the sample").fill("5")
    field.fill("[{")
    page.get_by_role("button", name="Evaluate now").click()
    expect(page.locator("#grid-problem")).to_contain_text("The grid is not JSON")
    expect(field).to_be_focused()
    before = client.call("GET /evaluations", query={"collection": NAME}).json["total"]
    field.fill(json.dumps([{"tables": 2}, {HOSTILE: 3}]))
    expect(page.locator("#grid-problem")).to_be_hidden()
    with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
        page.get_by_role("button", name="Evaluate now").click()
    assert answered.value.status == 422
    expect(page.locator("#grid-problem")).to_contain_text("entry 1 of the grid has")
    expect(page.locator("#grid-problem")).to_contain_text("<script>")
    assert client.call("GET /evaluations", query={"collection": NAME}).json["total"] == before
    page.get_by_role("button", name="Take this example").click()
    expect(field).to_be_focused()
    example = json.loads(field.input_value())
    assert len(grid_settings(example)) == 7
    page.get_by_label("Hits that count").fill(str(K))
    page.get_by_role("button", name="Evaluate now").click()
    expect(page.get_by_role("link", name="Look at it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#compared-runs tbody tr[data-run^=grid]")).to_have_count(7)
    page.goto("/")
    page.get_by_role("link", name="Evaluations").click()
    newest = page.locator("#evaluations tbody tr").first
    expect(newest).to_have_attribute("data-id", re.compile("."))
    cells = row(page.locator("#evaluations"), 0)
    made = client.call("GET /evaluations").json["evaluations"][0]
    best = next((run for run in made["runs"] if run["id"] == "lsh-cosine-all"), made["runs"][0])
    assert cells[1:4] == ["a sample of the collection", NAME, "7"]
    assert cells[-4:] == [str(K), *figures(best)]
    newest.get_by_role("link").first.press("Enter")
    page.wait_for_url(f"**/evaluations/{NAME}/{made['id']}")
    expect(page.locator("nav [aria-current=page]")).to_have_text("Evaluations")
    watch.expect_status(422)


def test_judging_can_be_cancelled_from_the_page(page: Page, stack: Stack, report: Report, client: Client) -> None:
    before = client.call("GET /evaluations", query={"collection": NAME}).json["total"]
    assert report
    control = make_app(stack.settings, name="tests").control

    def evaluators() -> list[str]:
        queues = control.inspect(timeout=2).active_queues() or {}
        return [node for node, its in queues.items() if EVALUATE in {queue["name"] for queue in its}]

    said: dict[str, Any] = {"destination": eventually(evaluators), "reply": True, "limit": 1, "timeout": PATIENCE_S}
    assert control.cancel_consumer(EVALUATE, **said)  # so that the job still waits when it is cancelled
    try:
        page.goto(f"/collections/{NAME}/quality")
        page.get_by_label("Images in the sample").fill("5")
        page.get_by_role("button", name="Evaluate now").click()
        expect(page.locator("#progress-text")).to_have_text("Getting the queries ready…")
        page.reload()  # the address keeps the job
        expect(page.locator("#progress-text")).to_have_text("Getting the queries ready…")
        with page.expect_response(lambda answer: answer.request.method == "DELETE"):
            page.get_by_role("button", name="Cancel").click()
    finally:
        assert control.add_consumer(EVALUATE, **said)
    expect(page.locator("#progress-text")).to_have_text("Cancelled: nothing of it is left.")
    expect(page.get_by_role("button", name="Evaluate now")).to_be_enabled()
    assert client.call("GET /evaluations", query={"collection": NAME}).json["total"] == before


def test_what_searches_really_get_is_a_line(page: Page, stack: Stack, report: Report, client: Client) -> None:
    assert report
    log = RecallLog(connect(stack.settings.index_url.get_secret_value()))
    log.write(NAME, HourOfRecall(hour_of(time.time()), sampled=4, total=3.5, dropped=2))
    live = client.call("GET /collections/{name}/recall", name=NAME, query={"days": 90}).json
    assert live["sampled"] >= 4
    page.goto(f"/collections/{NAME}/quality")
    expect(page.locator("#live-recall")).to_have_text(f"{live['recall']:.3f}")
    page.locator("#live + details summary").click()
    cells = row(page.locator("#live + details table"), 0)
    newest = live["hours"][-1]
    assert cells[1:] == [str(newest["sampled"]), f"{newest['recall']:.3f}", str(newest["dropped"])]
    assert drawn(page)["live"] == len(live["hours"])

"""Holds the files of Prometheus and Grafana against each other and the compose file, since no engine runs them here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import container_files as files
from tests.support import monitoring_files
from tests.support.paths import ROOT


def mounts(service: str) -> dict[str, Path]:
    """Where the files of this repository are in a container."""
    pairs = (mount.split(":")[:2] for mount in files.services()[service]["volumes"] if mount.startswith("./"))
    return {inside: ROOT / source for source, inside in pairs}


def test_every_file_is_mounted_where_it_is_looked_for() -> None:
    prometheus, grafana = mounts("prometheus"), mounts("grafana")
    assert {*prometheus.values(), *grafana.values()} == {
        path for path in monitoring_files.FOLDER.rglob("*") if path.is_file()
    }
    (config,) = [word for word in files.services()["prometheus"]["command"] if word.startswith("--config.file=")]
    assert prometheus[config.partition("=")[2]] == monitoring_files.FOLDER / "prometheus.yml"
    assert [prometheus[path] for path in monitoring_files.read("prometheus.yml")["rule_files"]] == [
        monitoring_files.FOLDER / "alerts.yml"
    ]
    (provider,) = monitoring_files.read("dashboards.yml")["providers"]
    folder = provider["options"]["path"]
    assert {f"{folder}/{path.name}": path for path in monitoring_files.DASHBOARDS} == {
        inside: path for inside, path in grafana.items() if inside.startswith(folder)
    }
    home = files.services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in grafana
    for name, kind in (("datasource.yml", "datasources"), ("dashboards.yml", "dashboards")):
        assert grafana[f"/etc/grafana/provisioning/{kind}/artseek.yml"] == monitoring_files.FOLDER / name


def test_prometheus_asks_the_services_at_their_ports() -> None:
    jobs = {job["job_name"]: job for job in monitoring_files.read("prometheus.yml")["scrape_configs"]}
    ((target,),) = [config["targets"] for config in jobs["artseek-web"]["static_configs"]]
    web = files.services()["web"]["environment"]["ARTSEEK_WEB_LISTEN"]
    assert target == f"web:{web.rpartition(':')[2]}"
    assert files.services()["web"]["environment"]["ARTSEEK_ALLOWED_HOSTS"].split(",")[0] == "web"
    (query,) = jobs["artseek-query"]["dns_sd_configs"]
    listens = files.services()["query"]["environment"]["ARTSEEK_QUERY_METRICS_LISTEN"]
    assert (query["names"], query["type"], str(query["port"])) == (["query"], "A", listens.rpartition(":")[2])
    for job, service in (("artseek-web", "web"), ("artseek-query", "query")):
        shown = jobs[job]["authorization"]["credentials_file"]
        assert shown == files.services()[service]["environment"]["ARTSEEK_METRICS_TOKEN_FILE"]
        assert shown.removeprefix("/run/secrets/") in files.secrets_of(service)
        assert shown.removeprefix("/run/secrets/") in files.secrets_of("prometheus")
    used = {name for text in monitoring_files.expressions() for name in re.findall(r'job="([^"]+)"', text)}
    assert used <= jobs.keys()


def test_the_dashboards_ask_the_source_that_is_provisioned() -> None:
    (source,) = monitoring_files.read("datasource.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    for path in monitoring_files.DASHBOARDS:
        for panel in monitoring_files.panels(path):
            for item in (panel, *panel["targets"]):
                assert item["datasource"] == {"type": source["type"], "uid": source["uid"]}


@pytest.mark.parametrize("path", monitoring_files.DASHBOARDS, ids=lambda path: path.stem)
def test_panels_are_told_apart_explained_and_side_by_side(path: Path) -> None:
    dashboard: dict[str, Any] = json.loads(path.read_text("utf-8"))
    assert dashboard["editable"] is False
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in monitoring_files.panels(path))
    assert len({json.loads(one.read_text("utf-8"))["uid"] for one in monitoring_files.DASHBOARDS}) == len(
        monitoring_files.DASHBOARDS
    )


def test_every_alert_is_told_and_documented() -> None:
    guide = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    names = [rule["alert"] for rule in monitoring_files.rules()]
    assert len(set(names)) == len(names) > 0
    for rule in monitoring_files.rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
        assert rule["annotations"]["summary"]
        # What the sentence names has to be left over by the expression.
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            kept = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
            assert not kept or all(label in names for names in kept), (rule["alert"], label)
    assert re.findall(r"(?m)^\| `(Artseek\w+)`", guide) == names


def test_the_labels_and_metrics_of_an_expression_are_found() -> None:
    text = 'sum by (le, a) (rate(one_bucket{b=~"x|y", c!="z{"}[5m])) / min_over_time(two[1h]) > 0.5 and three == 1'
    assert [(found.metric, sorted(found.labels)) for found in monitoring_files.selectors(text)] == [
        ("one_bucket", ["a", "b", "c", "le"]),
        ("two", ["a", "le"]),
        ("three", ["a", "le"]),
    ]

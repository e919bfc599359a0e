"""A short run of chaos: nothing that was acknowledged is lost, and no search is answered wrongly."""

import json

from tests.support.processes import run_module

# A seed whose half minute kills and stops workers, servers and their children, cuts the network, and empties the index.
SEED = 1


def test_nothing_is_lost_while_processes_die_and_servers_stop() -> None:
    printed = run_module(
        ["-m", "benchmarks.chaos", "--minutes", "0.5", "--seed", str(SEED), "--longest-stop", "5", "--json"],
        check=False,
        timeout_s=1200.0,
    )
    summary = json.loads(printed[printed.index("{") :])
    assert summary["ok"], json.dumps(summary, indent=1)
    assert summary["searches"]["200"], summary
    assert sum(summary["disturbances"].values()) >= 5, summary
    assert sum(count for name, count in summary["operations"].items() if name.endswith(": done")), summary

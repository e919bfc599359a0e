"""Each process of a query service has a socket and records of its own."""

from pathlib import Path

from services.query.processes.process_group import ProcessGroup, records_of_others


def test_each_process_has_a_socket_and_records_of_its_own(tmp_path: Path) -> None:
    group = [ProcessGroup(tmp_path, number, 3) for number in range(3)]
    assert len({member.socket for member in group}) == 3
    records = [member.records(tmp_path / "copy") for member in group]
    assert records[0] == tmp_path / "copy"  # where a service of one process has them
    assert len(set(records)) == 3


def test_records_of_processes_that_there_are_no_more_are_found(tmp_path: Path) -> None:
    for number in range(12):
        ProcessGroup(tmp_path, number, 12).records(tmp_path).mkdir(exist_ok=True)
    for other in ("art-1234abcd", "records", "process-odd"):
        (tmp_path / other).mkdir()
    found = {folder.name for folder in records_of_others(tmp_path, 2)}
    assert found == {f"process-{number}" for number in range(2, 12)}

"""Prints what a verification found."""

from rich.table import Table

from cli.printing.console import out, plain
from shared.verification.findings import Report


def print_report(report: Report) -> None:
    """Print a table of the findings, and what was looked at."""
    if report.findings:
        table = Table("collection", "damage", "count", "state", "meaning", "such as")
        for finding in report.findings:
            found = finding.to_json()
            state = "[green]mended[/]" if finding.repaired else "[red]damaged[/]"
            examples = plain(", ".join(found["examples"][:2]))
            table.add_row(
                plain(finding.collection or "–"), finding.kind, str(found["count"]), state, found["meaning"], examples
            )
        out.print(table)
    looked_at = (
        f"{report.collections} collections, {report.images} images, {report.originals} originals, "
        f"{report.originals_read} of them read"
    )
    if not report.findings:
        out.print(f"Whole: {looked_at}.")
    elif report.ok:
        out.print(f"Whole again: {looked_at}.")
    else:
        out.print(f"There is damage; looked at {looked_at}. `artseek verify --repair` mends what can be mended.")

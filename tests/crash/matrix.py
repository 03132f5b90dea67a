"""The crash matrix: which row was proven where, and how it went; printed by whoever reports.

A plugin of its own, because the process that reports a run side by side loads no conftest below
`tests/`.
"""

import json
from pathlib import Path

import pytest
from mospay_dev.services import ROOT

FOLDER = ROOT / ".mospay/crash"
_ROWS = "rows"  # the report property: (row, service, step) of each row that a test proves
_RESULTS: dict[tuple[str, str, str, str], str] = {}  # row, service, step, test → how it went


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that says which row of failure.md a test proves."""
    config.addinivalue_line(
        "markers", "row(number, service, step): a row of the crash matrix (design: failure)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a row's test its rows to report, and a longer time limit than other tests have."""
    for item in items:
        if "crash" not in Path(str(item.fspath)).parts:
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(360))
        rows = [[str(part) for part in mark.args] for mark in item.iter_markers("row")]
        if rows:
            item.user_properties.append((_ROWS, rows))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep how each row went, whoever ran it: the first thing that was not a pass counts."""
    for row in dict(report.user_properties).get(_ROWS, []):
        key = (*row, report.nodeid)
        if _RESULTS.get(key, "passed") == "passed":
            _RESULTS[key] = "xfailed" if hasattr(report, "wasxfail") else report.outcome


def _in_order(row: tuple[str, str, str, str]) -> tuple[int, str, str]:
    digits = "".join(c for c in row[0] if c.isdigit())
    return (int(digits) + (100 if row[0].startswith("B") else 0), row[1], row[2])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table and write it as matrix.md and matrix.json below `.mospay/crash`."""
    done = [(*row, _RESULTS[row]) for row in sorted(_RESULTS, key=_in_order)]
    if not done:
        return
    lines = ["| row | service | step | result |", "|---|---|---|---|"]
    lines += [
        f"| {row} | {service} | {step} | {result} |" for row, service, step, _, result in done
    ]
    terminalreporter.section("crash matrix")
    for line in lines:
        terminalreporter.write_line(line)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "matrix.md").write_text("\n".join(lines) + "\n")
    names = ("row", "service", "step", "test", "result")
    table = [dict(zip(names, one, strict=True)) for one in done]
    (FOLDER / "matrix.json").write_text(json.dumps(table, indent=2) + "\n")

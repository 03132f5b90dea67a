"""`./mospay test`: what passes only alone is named, what fails alone as well is not excused."""

import json
from pathlib import Path

import pytest
from mospay_dev import crowd

SUITE = """
import os

def test_that_needs_room():
    assert "PYTEST_XDIST_WORKER" not in os.environ, "crowded out"

def test_that_is_broken():
    assert 1 == 2

def test_that_holds():
    pass
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small workspace with three tests, run as by a person and not from within a run."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    tests = tmp_path / "thing" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_it.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mospay_dev.pytest_plugin"]')
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(suite: Path, *arguments: str) -> tuple[int, list[str], list[str]]:
    """Run the suite; return the exit code, the lines at the end, and what was said."""
    said: list[str] = []
    code, lines = crowd.run(
        ["-q", *arguments], root=suite, folder=suite / "results", say=said.append
    )
    return code, lines, said


def test_test_that_passes_only_alone_is_named_with_what_went_wrong_in_the_crowd(
    suite: Path,
) -> None:
    code, lines, said = run(suite)
    assert code == 1  # one is broken, alone too
    (line,) = lines
    assert line.startswith("thing/tests/test_it.py::test_that_needs_room  ")
    assert "crowded out" in line
    assert len(said) == 1
    alone = json.loads((suite / "results/alone.json").read_text())
    assert {name.partition("::")[2] for name in alone} == {
        "test_that_needs_room", "test_that_is_broken",
    }  # fmt: skip


def test_run_whose_failures_all_pass_alone_succeeds_and_names_them(suite: Path) -> None:
    code, lines, _ = run(suite, "-k", "room or holds")
    assert (code, len(lines)) == (0, 1)


def test_run_without_failures_is_not_repeated(suite: Path) -> None:
    assert run(suite, "-k", "holds") == (0, [], [])
    assert not (suite / "results/alone.json").exists()

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
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the large ones are not needed
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin")
    tests = tmp_path / "thing" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_it.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mospay_dev.pytest_plugin"]')
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


@pytest.mark.timeout(400)  # two runs, of three processes
def test_test_that_passes_only_alone_is_named_with_what_went_wrong_in_the_crowd(
    suite: Path,
) -> None:
    said: list[str] = []
    code, lines = crowd.run(["-q"], root=suite, folder=suite / "results", say=said.append)
    assert code == 1  # one is broken, alone too
    (line,) = lines
    assert line.startswith("thing/tests/test_it.py::test_that_needs_room  ")
    assert "crowded out" in line
    assert len(said) == 1
    alone = json.loads((suite / "results/alone.json").read_text())
    assert {name.partition("::")[2]: error != "" for name, error in alone.items()} == {
        "test_that_needs_room": False, "test_that_is_broken": True,
    }  # fmt: skip


def test_only_what_ran_alone_and_passed_there_is_named() -> None:
    in_crowd = {"a::broken": "no", "a::raced": "late", "a::fine": "", "a::not_run_again": "no"}
    alone = {"a::broken": "no", "a::raced": "", "a::other": ""}
    assert crowd.passed_only_alone(in_crowd, alone) == ["a::raced  late"]

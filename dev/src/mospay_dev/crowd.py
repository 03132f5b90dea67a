"""Every test, side by side on stacks of their own; what fails in that crowd runs again alone.

A test that passes only alone is named at the end: it, or what it tests, guesses about time.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_SIDE_BY_SIDE = ["-n", "3", "--dist", "loadscope", "--no-loadscope-reorder"]
_ALONE = ["--last-failed", "--last-failed-no-failures", "none"]
_TESTS_FAILED = 1  # pytest's exit code
TITLE = "passed only alone"


def run(
    arguments: Sequence[str], *, root: Path, folder: Path, say: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run pytest in `root`; return its exit code and the lines about what passed only alone.

    How the tests ended is left as JSON in `folder`: `crowd.json`, `alone.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    crowd, alone = folder / "crowd.json", folder / "alone.json"
    for old in (crowd, alone):
        old.unlink(missing_ok=True)
    code = _pytest([*_SIDE_BY_SIDE, "--outcomes", str(crowd), *arguments], root)
    if code != _TESTS_FAILED:
        return code, []
    say("some failed: they run once more, alone; what fails again is broken, not crowded out")
    code = _pytest([*_ALONE, "--outcomes", str(alone), *arguments], root)
    return code, passed_only_alone(_read(crowd), _read(alone))


def passed_only_alone(crowd: dict[str, str], alone: dict[str, str]) -> list[str]:
    """Return a line for each test that failed in the crowd and passed alone: name and error."""
    names = sorted(name for name, error in crowd.items() if error and alone.get(name) == "")
    return [f"{name}  {crowd[name]}" for name in names]


def _pytest(arguments: Sequence[str], root: Path) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=root, check=False).returncode


def _read(path: Path) -> dict[str, str]:
    """Return by test what went wrong with it, "" where nothing did."""
    if not path.exists():
        return {}
    found: dict[str, str] = json.loads(path.read_text())
    return found

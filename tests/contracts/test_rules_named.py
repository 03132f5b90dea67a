"""Every numbered rule of the failure design has a test that carries its number in its name."""

import re
import subprocess

import pytest
from mospay_dev.services import ROOT

RULES = range(1, 26)
NAME = re.compile(r"^\s*(?:async )?def (test_rule_(\d\d)_\w+)", re.M)


def named_tests() -> dict[int, list[str]]:
    """Return the tests of this repository by the rule their name begins with."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*test_*.py"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[int, list[str]] = {}
    for file in files.split():
        if (ROOT / file).is_file():
            for name, number in NAME.findall((ROOT / file).read_text()):
                found.setdefault(int(number), []).append(f"{file}::{name}")
    return found


@pytest.mark.parametrize("number", RULES)
def test_numbered_rule_has_a_test_named_after_it(number: int) -> None:
    assert named_tests().get(number), f"no test is called test_rule_{number:02}_…"


def test_no_test_names_a_rule_that_does_not_exist() -> None:
    assert set(named_tests()) <= set(RULES)

"""A Chromium for the browser tests: the installed one, the distribution's, else Playwright's."""

import shutil
import sys
from collections.abc import Callable

from mospay_dev.infrastructure.packages import install
from mospay_dev.infrastructure.processes import StartFailed, run_told


def find_chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    return None


def ensure_chromium(say: Callable[[str], None]) -> str | None:
    """Return a Chromium's path, installing one if need be; None means Playwright's own."""
    if found := find_chromium():
        return found
    try:
        install(["chromium"], say)
    except StartFailed as error:
        say("installing Playwright's Chromium")
        command = [sys.executable, "-m", "playwright", "install", "chromium"]
        done = run_told(command, "installing Playwright's Chromium", say)
        if done.returncode:
            raise StartFailed(
                f"{error}\nand Playwright's own failed too:\n{done.output}"
            ) from error
    return find_chromium()

"""Fixtures for every test come from the development package; the crash matrix is a plugin too."""

pytest_plugins = ["mospay_dev.pytest_plugin", "tests.crash.matrix"]

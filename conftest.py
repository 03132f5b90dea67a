"""Fixtures for every test in the workspace come from the development package."""

pytest_plugins = ["mospay_dev.pytest_plugin"]

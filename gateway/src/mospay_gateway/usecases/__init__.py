"""Verbs of the gateway: accept, wait, read, take news, keep callbacks, sweep."""

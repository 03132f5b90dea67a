"""Verbs of portal-api, by noun; one verb is one transaction."""

"""Verbs of the ledger: post, reverse, plan fees, seal and verify; one transaction each."""

"""MosPay ledger service."""

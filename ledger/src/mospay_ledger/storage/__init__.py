"""All SQL of the ledger: posting, reads, fee plans, the hash chain."""

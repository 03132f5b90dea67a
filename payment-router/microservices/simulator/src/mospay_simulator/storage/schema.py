"""Tables of the durable record, and how an older file becomes a newer one."""

import sqlite3
from typing import Final

_VERSION: Final = 2

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS payments (
    reference text PRIMARY KEY,
    provider_reference text NOT NULL UNIQUE,
    service text NOT NULL,
    route text NOT NULL,
    amount text NOT NULL,
    phone_masked text,
    scenario text NOT NULL,
    outcome text NOT NULL,
    callback_url text,
    accepted_at text NOT NULL,
    settles_at text,
    repeats integer NOT NULL DEFAULT 0,
    reason_code text,
    step integer NOT NULL DEFAULT 0,
    refund_scenario text
) STRICT;
CREATE INDEX IF NOT EXISTS payments_due ON payments (settles_at) WHERE settles_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS attempts (
    attempt_id text PRIMARY KEY,
    reference text NOT NULL REFERENCES payments
) STRICT;
CREATE TABLE IF NOT EXISTS effects (
    id integer PRIMARY KEY,
    reference text NOT NULL REFERENCES payments,
    amount text NOT NULL,
    phone_masked text,
    scenario text NOT NULL,
    at text NOT NULL
) STRICT;
-- The promise itself: whatever the code above it does, one reference has one effect.
CREATE UNIQUE INDEX IF NOT EXISTS effects_once ON effects (reference);
-- The payment may be unknown: a refund of nothing is recorded too, as failed.
CREATE TABLE IF NOT EXISTS refunds (
    refund_id text PRIMARY KEY,
    provider_reference text NOT NULL UNIQUE,
    service text NOT NULL,
    payment_reference text NOT NULL,
    amount text NOT NULL,
    currency text NOT NULL,
    scenario text NOT NULL,
    outcome text NOT NULL,
    reason_code text,
    callback_url text,
    accepted_at text NOT NULL,
    settles_at text,
    step integer NOT NULL DEFAULT 0,
    repeats integer NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS refunds_due ON refunds (settles_at) WHERE settles_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS refunds_of ON refunds (payment_reference);
CREATE TABLE IF NOT EXISTS refund_attempts (
    attempt_id text PRIMARY KEY,
    refund_id text NOT NULL REFERENCES refunds
) STRICT;
CREATE TABLE IF NOT EXISTS refund_effects (
    id integer PRIMARY KEY,
    refund_id text NOT NULL REFERENCES refunds,
    payment_reference text NOT NULL,
    amount text NOT NULL,
    currency text NOT NULL,
    scenario text NOT NULL,
    at text NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS refund_effects_once ON refund_effects (refund_id);
CREATE INDEX IF NOT EXISTS refund_effects_of ON refund_effects (payment_reference);
-- `reference` is that of a payment or of a refund.
CREATE TABLE IF NOT EXISTS callbacks (
    id integer PRIMARY KEY,
    reference text NOT NULL,
    url text NOT NULL,
    body blob NOT NULL,
    forged integer NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    due_at text
) STRICT;
CREATE INDEX IF NOT EXISTS callbacks_due ON callbacks (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS clock (
    only integer PRIMARY KEY CHECK (only = 1),
    offset_seconds real NOT NULL
) STRICT;
INSERT OR IGNORE INTO clock VALUES (1, 0);
"""

# Effects are appended and then stay as they are: an audit compares others against them.
_KEPT: Final = """
CREATE TRIGGER IF NOT EXISTS {table}_never_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} only grows'); END;
"""

# From the first version, which had neither refunds nor later steps.
_FROM_1: Final = """
ALTER TABLE payments ADD COLUMN reason_code text;
ALTER TABLE payments ADD COLUMN step integer NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN refund_scenario text;
UPDATE payments SET step = 1 WHERE settles_at IS NULL AND outcome = 'succeeded';
UPDATE payments SET reason_code = CASE scenario WHEN 'late_success' THEN 'payer_timeout'
    ELSE scenario END WHERE outcome = 'failed';
ALTER TABLE callbacks RENAME TO callbacks_1;
CREATE TABLE callbacks (
    id integer PRIMARY KEY,
    reference text NOT NULL,
    url text NOT NULL,
    body blob NOT NULL,
    forged integer NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    due_at text
) STRICT;
INSERT INTO callbacks SELECT id, reference, url, body, forged, tries, due_at FROM callbacks_1;
DROP TABLE callbacks_1;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older file up to date; in one transaction."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    old = (
        version == 0
        and connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'payments'").fetchone()
    )
    kept = "".join(
        _KEPT.format(table=table, verb=verb)
        for table in ("effects", "refund_effects")
        for verb in ("update", "delete")
    )
    script = (_FROM_1 if old else "") + _TABLES + kept
    connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {_VERSION}; COMMIT;")

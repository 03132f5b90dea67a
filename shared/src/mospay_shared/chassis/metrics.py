"""The numbers every service shows at /metrics; counted per batch, never per row where it is hot."""

from prometheus_client import Counter, Gauge, Histogram

RELAY_EVENTS = Counter("mospay_relay_events", "Events published and confirmed", ["service"])
RELAY_PACKS = Counter("mospay_relay_packs", "Messages those events travelled in", ["service"])
RELAY_UNHEARD = Counter("mospay_relay_unheard", "Events dropped: no queue took them", ["service"])
RELAY_RETURNED = Counter("mospay_relay_returned", "Events put back after a refusal", ["service"])
RELAY_FAILURES = Counter("mospay_relay_failures", "Claims that met no broker", ["service"])
OUTBOX_DEPTH = Gauge("mospay_outbox_depth", "Rows that wait to be published", ["service"])
OUTBOX_AGE = Gauge("mospay_outbox_oldest_seconds", "Age of the oldest waiting row", ["service"])
INBOX_EVENTS = Counter("mospay_inbox_events", "Events by queue and fate", ["queue", "fate"])
INBOX_BATCH = Histogram(
    "mospay_inbox_batch_size", "Events a transaction", ["queue"], buckets=(1, 5, 20, 50, 100, 300)
)
INBOX_STATE = Gauge("mospay_inbox_waiting", "Inbox rows to retry or dead", ["service", "state"])
WORKER_ROWS = Counter("mospay_worker_rows", "Rows a worker handled", ["worker"])
WORKER_FAILURES = Counter("mospay_worker_failures", "Rounds of a worker that raised", ["worker"])
HTTP_SECONDS = Histogram(
    "mospay_http_seconds",
    "Latency by route and status class",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30, 120),
)

"""JSON logs with event-style keys; values under secret-looking names never get out."""

import logging
import re
import sys
from typing import Any

import structlog

_SECRET = re.compile(r"password|secret|token|authorization|cookie|f007|f008|api_key|phone", re.I)


def _redact(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for key in event:
        if _SECRET.search(key):
            event[key] = "[redacted]"
    return event


def configure_logs(service: str, level: str) -> None:
    """Send structlog and the standard library's records to stdout as one JSON object a line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
    ]
    number = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processor=structlog.processors.JSONRenderer(),
        )
    )
    root = logging.getLogger()
    root.handlers, root.level = [handler], max(number, logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)

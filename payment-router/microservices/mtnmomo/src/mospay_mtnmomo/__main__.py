"""`python -m mospay_mtnmomo [openapi]`: serve, or print the OpenAPI document."""

import json
import logging
import sys

import uvicorn

from mospay_mtnmomo.app import SPARE_SECONDS, create_app
from mospay_mtnmomo.settings import Settings


def main(arguments: list[str]) -> int:
    """Exit code 2 for an unknown command, as argparse would."""
    if arguments == ["openapi"]:
        document = create_app(Settings(http_port=0)).openapi()
        sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
        return 0
    if arguments:
        sys.stderr.write("usage: python -m mospay_mtnmomo [openapi]\n")
        return 2
    settings = Settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(message)s")
    uvicorn.run(
        create_app(settings),
        host=settings.http_host,
        port=settings.http_port,
        ws="none",
        log_level=settings.log_level,
        access_log=False,
        limit_concurrency=settings.concurrency_limit,
        timeout_keep_alive=75,  # longer than the router keeps an idle connection
        # Calls under way end and are written down before the process does.
        timeout_graceful_shutdown=int(settings.timeout_seconds + SPARE_SECONDS),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m mospay_simulator [openapi]`: serve, or print the OpenAPI document."""

import json
import sys

from mospay_simulator.app import create_app
from mospay_simulator.server import serve
from mospay_simulator.settings import Settings


def main(arguments: list[str]) -> int:
    """Exit code 2 for an unknown command, as argparse would."""
    if arguments == ["openapi"]:
        document = create_app(Settings(http_port=0)).openapi()
        sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
        return 0
    if arguments:
        sys.stderr.write("usage: python -m mospay_simulator [openapi]\n")
        return 2
    settings = Settings()
    serve(create_app(settings), settings)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

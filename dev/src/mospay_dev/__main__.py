"""`python -m mospay_dev` is what `./mospay` runs."""

from mospay_dev.cli import main

main()

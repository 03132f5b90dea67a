"""Local stack, demo and developer commands behind `./mospay`."""

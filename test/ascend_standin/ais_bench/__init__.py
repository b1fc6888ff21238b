"""Stand-in for the package ais_bench 0.0.2, for tests (see ../standin.py)."""

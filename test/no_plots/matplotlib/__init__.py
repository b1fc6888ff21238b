"""On PYTHONPATH: no matplotlib, so that drivers whose page is not tested draw none (4 s each)."""

raise ImportError("left out by a test")

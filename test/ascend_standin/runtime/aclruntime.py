"""aclruntime alone, as in a Python that has no ais_bench: for ais_infer.py."""

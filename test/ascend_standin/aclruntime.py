"""The module that ais_bench and ais_infer.py drive the card with: here only to be found."""

"""Quantization to INT8, and what it costs."""

"""Helpers of the inference tool."""

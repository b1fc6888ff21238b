"""Ascend's toolchain: cards, versions, .om files, atc and ais_bench."""

"""Inference over any number of images and hosts, as a Ray Data pipeline."""

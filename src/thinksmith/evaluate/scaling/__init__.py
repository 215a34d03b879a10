"""Accuracy against what it costs, from one pool of samples."""

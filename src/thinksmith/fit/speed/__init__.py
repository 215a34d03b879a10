"""Machines, and how fast a model can go on them."""

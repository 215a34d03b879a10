"""What fits in memory, and how fast it can go: before anything is downloaded or allocated.

A `Shape` is what a model's config says of its size (`shape.py`), a `Device` what a machine has (`device.py`). From them
come exact bytes of weights and caches, and estimates of what engines and trainers put on top, each with its reason.
"""

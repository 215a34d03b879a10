"""Samples as files: the formats that are read, the two that are written.

`read_set` is what trainers read by; `samples` the same as a stream; `write_samples` writes a file.
"""

from thinksmith.distill.formats.read import read_set, samples
from thinksmith.distill.formats.write import write_samples

__all__ = ["read_set", "samples", "write_samples"]

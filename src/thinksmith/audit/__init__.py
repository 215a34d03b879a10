"""What happened in a trace: segments, equations checked exactly, where the answer came up, loops, disagreement."""

from thinksmith.audit.audit import Audit, audit
from thinksmith.audit.equations import Equation, find_equations
from thinksmith.audit.loops import Loop, find_loop
from thinksmith.audit.segments import Segment, find_segments

__all__ = ["Audit", "Equation", "Loop", "Segment", "audit", "find_equations", "find_loop", "find_segments"]

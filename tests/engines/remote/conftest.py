"""The server that breaks in every way lives beside the benchmarks, which use it too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "bench"))

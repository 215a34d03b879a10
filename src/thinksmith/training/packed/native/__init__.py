"""The attention of packed rows in C, in float32 on a CPU. `kernel.py` calls it, `plan.py` says who sees whom."""

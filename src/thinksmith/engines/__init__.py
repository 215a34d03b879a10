"""Who thinks. `contract.py` says what an engine is; `local/` runs a policy in this process; `replay.py` repeats a run."""

"""The decoder in C: for models of the Llama family in float32 on a CPU. `road.py` runs it, `model.py` fills it."""

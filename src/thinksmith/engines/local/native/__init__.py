"""The decoder in C: for models of the Llama family in float32 on a CPU. `build.py` compiles it, `model.py` fills it."""

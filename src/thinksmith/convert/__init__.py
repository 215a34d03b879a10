"""A model goes where others run it:

GGUF for llama.cpp (`gguf.py`, `tokenizer.py`), Ollama (`ollama.py`), Hugging Face's format.
"""

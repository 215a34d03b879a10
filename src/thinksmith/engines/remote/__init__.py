"""Engines behind endpoints: Ollama, vLLM, NIM, llama.cpp, SGLang, LM Studio, the hosted ones, and any that speaks
OpenAI's chat.

| file | subject |
|---|---|
| `names.py` | a model's name → an `Endpoint` |
| `presets.py`, `settings.py`, `prices.py` | what each kind of server is like; the user's file; what tokens cost |
| `listing.py` | what is embedded, cached, and served on this machine |
| `wire/` | HTTP: pace, retries, circuit breaker, bytes → events |
| `dialects/` | what each API wants to be asked, and how its answers are read |
| `continuing.py` | how a turn that has begun is gone on with |
| `turn.py`, `draft.py` | one completion: its calls, budgets, what is done when one breaks; its trace |
| `engine.py` | the contract |
"""

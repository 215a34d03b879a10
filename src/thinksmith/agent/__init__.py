"""The agent: plan, act, observe, reflect. `loop.py` is the strategy, `contract.py` says what a tool is."""

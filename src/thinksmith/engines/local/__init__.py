"""The engine in this process."""

import thinksmith.policy  # noqa: F401  before transformers: it says what need not be logged

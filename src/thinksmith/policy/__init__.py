"""The model in memory. Importing this alone loads neither torch nor transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_torchao() -> Iterator[None]:
    """transformers imports torchao where it is installed, and that logs which of its GPU kernels are not for this
    machine."""
    loggers = [logging.getLogger(each) for each in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

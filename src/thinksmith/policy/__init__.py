"""The model in memory."""

import logging

# transformers imports torchao where it is installed, and that logs which of its GPU kernels are not for this machine.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

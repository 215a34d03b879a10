"""A model as an ordinary Hugging Face folder, adapters merged in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thinksmith.convert.weights import tensors
from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy


def write_folder(policy: Policy, folder: Path) -> int:
    """Weights, config, tokenizer and template;

    the bytes of the weights. Raises UserError for a folder that is there.
    """
    from thinksmith.training.model_folder import save_model

    if folder.exists():
        raise UserError(f"{folder} is there already: name another --out, or remove it")
    model: Any = policy.model
    weights = {name: tensor.contiguous() for name, tensor in tensors(policy)}
    save_model(folder, _Merged(model, weights), policy.tokenizer)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


class _Merged:
    """A model whose `save_pretrained` writes these weights: peft's layers in it have other names."""

    def __init__(self, model: Any, weights: dict[str, Any]) -> None:
        self._model, self._weights = model, weights

    def save_pretrained(self, folder: Path) -> None:
        """As transformers' own."""
        self._model.config.save_pretrained(folder)
        if self._model.generation_config is not None:
            self._model.generation_config.save_pretrained(folder)
        from safetensors.torch import save_file

        save_file(self._weights, folder / "model.safetensors", metadata={"format": "pt"})

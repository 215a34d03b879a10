"""LoRA on a policy: a small trained side path beside frozen weights, by peft.

y = W x + (alpha / rank) * B A x, with A [rank, in] random and B [out, rank] zero at first (Hu et al. 2021,
arXiv:2106.09685). `policy.model` stays transformers' own class: peft replaces its linear layers by ones that hold them.
So the engine samples the adapted model, training updates the adapter alone, and with the adapter off the same weights
are the reference model. W is never written to: switching cannot drift, however often, and costs no second copy.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from thinksmith.errors import UserError, one_line
from thinksmith.policy.load import plain_name
from thinksmith.policy.policy import Policy

NAME = "default"  # peft's name of an adapter that has none
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # what peft puts before every name in its files
# What makes a LoRA more than A and B of equal rank. Some ways to begin would even change the weights beside it.
NOT_PLAIN = (
    "use_dora", "use_qalora", "use_bdlora", "lora_bias", "modules_to_save", "target_parameters", "layer_replication",
    "trainable_token_indices", "alora_invocation_tokens", "rank_pattern", "alpha_pattern", "velora_config",
    "monteclora_config", "arrow_config", "kasa_config",
)  # fmt: skip
BEGINNINGS = (True, False, "gaussian", "orthogonal")


@dataclass(frozen=True, slots=True)
class LoRA:
    """`rank` of the side path, which is scaled by `alpha` / `rank`; `dropout` of its input while training.

    `targets`: names of linear layers, such as `q_proj`, or their ends, such as `layers.0.self_attn.q_proj`; none means
    all linear layers of the decoder. The head, which gives the logits, is none of them. `seed` draws A.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    seed: int = 0


def add_lora(policy: Policy, lora: LoRA | None = None) -> None:
    """Put a fresh adapter on the policy's model; it computes what it did before, until the adapter is trained.

    Afterwards the adapter's parameters alone require gradients; they are float32 whatever the weights are, since small
    updates of them would be lost in bfloat16. Torch's own random numbers are not used up. Raises UserError.
    """
    from peft import LoraConfig

    lora = lora or LoRA()
    _check(policy, lora)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets or _leaves(_linears(policy))),
        task_type="CAUSAL_LM",
    )
    _inject(policy, config)
    draw = torch.Generator().manual_seed(lora.seed)
    for layer in _layers(policy).values():
        weight = layer.lora_A[NAME].weight
        drawn = nn.init.kaiming_uniform_(torch.empty(weight.shape), a=math.sqrt(5), generator=draw)  # as peft does
        with torch.no_grad():
            weight.copy_(drawn)


@contextmanager
def reference(policy: Policy) -> Iterator[None]:
    """The model without its adapter: the reference, by the same weights. No request may be running at either end.

    `policy.weights_hash` is then that of the model before the adapter, and the engine reuses no prompt from the other
    side. May be nested. Raises UserError where there is no adapter.
    """
    layers = list(_require(policy).values())
    on, learnt = policy.adapter, [(weight, weight.requires_grad) for weight in _weights(policy).values()]
    try:
        _switch(policy, layers, "")
        yield
    finally:
        _switch(policy, layers, on)
        for weight, flag in learnt:  # peft's switch freezes and thaws; a reference changes nothing
            weight.requires_grad_(flag)


def save_adapter(policy: Policy, folder: str | Path) -> None:
    """Write the adapter in peft's format (adapter_config.json, adapter_model.safetensors), which `PeftModel` reads.

    Other files of the folder stay. Raises UserError if there is no adapter or the folder cannot be written.
    """
    _require(policy)
    folder = Path(folder)
    config = copy.copy(policy.model.peft_config[NAME])
    config.inference_mode = True  # as peft saves it
    # So that the adapter can be loaded by its folder alone, from wherever.
    name = plain_name(policy.base)
    config.base_model_name_or_path = str(Path(name).absolute()) if Path(name).is_dir() else name
    config.target_modules = sorted(config.target_modules)
    weights = {_file_name(name): weight.detach().cpu().contiguous() for name, weight in _weights(policy).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".adapter-") as part:
            save_file(weights, Path(part) / WEIGHTS, metadata={"format": "pt"})
            config.save_pretrained(part)
            for file in (WEIGHTS, CONFIG):
                (Path(part) / file).replace(folder / file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write the adapter to {folder}: {one_line(error)}") from None


def load_adapter(policy: Policy, folder: str | Path) -> None:
    """Put the adapter that `save_adapter` or peft wrote on the policy's model, ready to sample or to train further.

    Raises UserError, and leaves the policy as it is, if the folder holds no plain LoRA adapter or one of another model.
    """
    folder = Path(folder)
    _none_yet(policy)
    config, weights = _read(folder)
    modules = _fitting(policy, folder, config.r, weights)
    # The weights tell for certain where the adapter goes; short names are kept where they mean the same.
    leaves = _leaves(modules)
    config.target_modules = leaves if _chosen(_linears(policy), leaves) == modules else modules
    config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
    config.init_lora_weights, config.inference_mode = True, False
    _inject(policy, config)
    with torch.no_grad():
        for name, weight in _weights(policy).items():
            weight.copy_(weights[_file_name(name)])
    policy.touch()


def _check(policy: Policy, lora: LoRA) -> None:
    _none_yet(policy)
    rules = (
        (lora.rank >= 1, f"an adapter's rank must be at least 1, not {lora.rank}"),
        (0 < lora.alpha < math.inf, f"an adapter's alpha must be more than 0, not {lora.alpha}"),
        (0 <= lora.dropout < 1, f"an adapter's dropout must lie in [0, 1), not {lora.dropout}"),
    )
    for holds, rule in rules:
        if not holds:
            raise UserError(rule)
    linears = _linears(policy)
    if not linears:
        raise UserError(f"model {policy.name} has no linear layers that an adapter can be put on")
    for target in lora.targets:
        if not _chosen(linears, [target]):
            known = _leaves(linears)
            near = difflib.get_close_matches(target, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"model {policy.name} has no layer {target!r}: {hint}There are {', '.join(known)}")


def _none_yet(policy: Policy) -> None:
    if _layers(policy):
        raise UserError(f"model {policy.name} has an adapter already; load the model again for another one")


def _require(policy: Policy) -> dict[str, Any]:
    layers = _layers(policy)
    if not layers:
        raise UserError(f"model {policy.name} has no adapter; add_lora or load_adapter puts one on it")
    return layers


def _inject(policy: Policy, config: Any) -> None:
    """Let peft put its layers in, silently and without a trace in torch's random numbers.

    Not by transformers' `add_adapter`, which calls the same and first asks for a version of peft that may not be out.
    """
    from peft import inject_adapter_in_model

    model = policy.model
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            inject_adapter_in_model(config, model, NAME)
        except (TypeError, ValueError, NotImplementedError) as error:  # a kind of layer that peft does not know
            raise UserError(f"model {policy.name} cannot take an adapter: {one_line(error)}") from None
    model._hf_peft_config_loaded = True  # as `add_adapter` notes it for transformers' own methods
    for layer in _layers(policy).values():
        layer.set_adapter(NAME)
    model.train(model.training)  # its new parts too
    for weight in _weights(policy).values():
        weight.data = weight.data.float()
    policy.adapter = _noted(policy)
    policy.touch()


def _noted(policy: Policy) -> str:
    """What the model computes depends on the scales too, and they are no weights."""
    return json.dumps({name: layer.scaling[NAME] for name, layer in _layers(policy).items()}, sort_keys=True)


def _switch(policy: Policy, layers: list[Any], adapter: str) -> None:
    for layer in layers:
        layer.enable_adapters(bool(adapter))
    policy.adapter = adapter
    policy.touch()


def _layers(policy: Policy) -> dict[str, Any]:
    """The layers that hold an adapter, by their names in the model."""
    if not getattr(policy.model, "peft_config", None):
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in policy.model.named_modules() if isinstance(module, LoraLayer)}


def _weights(policy: Policy) -> dict[str, nn.Parameter]:
    """The adapter's parameters, by their names in the model."""
    return {name: weight for name, weight in policy.model.named_parameters() if f".{NAME}.weight" in name}


def _linears(policy: Policy) -> dict[str, nn.Linear]:
    """The linear layers of the decoder, by their names in the model."""
    head = policy.model.get_output_embeddings()
    inside = {id(module) for module in policy.model.get_decoder().modules() if module is not head}
    named = policy.model.named_modules()
    return {name: module for name, module in named if isinstance(module, nn.Linear) and id(module) in inside}


def _leaves(names: Any) -> list[str]:
    return sorted({name.rsplit(".", 1)[-1] for name in names})


def _chosen(linears: dict[str, nn.Linear], targets: list[str]) -> list[str]:
    """The layers that peft puts an adapter on if it is told `targets`."""
    return sorted(name for name in linears if any(f".{name}".endswith(f".{target}") for target in targets))


def _file_name(name: str) -> str:
    """A parameter's name in peft's files, which leave the adapter's own name out."""
    return PREFIX + name.replace(f".{NAME}.weight", ".weight")


def _read(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """An adapter's config and weights. Raises UserError."""
    from peft import LoraConfig

    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise UserError(f"folder {folder} holds no {file}: name the folder of an adapter that peft or we saved")
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        odd = [key for key in NOT_PLAIN if said.get(key)] + ["bias"] * (said.get("bias", "none") != "none")
        odd += ["init_lora_weights"] * (said.get("init_lora_weights", True) not in BEGINNINGS)
        if said.get("peft_type") != "LORA" or odd:
            raise UserError(f"adapter {folder} is no plain LoRA ({', '.join(odd) or said.get('peft_type')})")
        config = LoraConfig.from_pretrained(str(folder))
        return config, load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # of JSON, of UTF-8 and of peft's config
        raise UserError(f"adapter {folder}: {CONFIG} cannot be read ({one_line(error)})") from None
    except SafetensorError as error:
        raise UserError(f"adapter {folder}: {WEIGHTS} is corrupt ({one_line(error)}); copy it again") from None


def _fitting(policy: Policy, folder: Path, rank: int, weights: dict[str, torch.Tensor]) -> list[str]:
    """The layers that these weights are for. Raises UserError if they are not this model's."""
    linears = _linears(policy)
    pairs: dict[str, set[str]] = {}
    for key, weight in weights.items():
        name, _, kind = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        linear = linears.get(name)
        if linear is None or kind not in ("lora_A", "lora_B"):
            raise UserError(f"adapter {folder} is of another model: {policy.name} has no place for {key}")
        wanted = (rank, linear.in_features) if kind == "lora_A" else (linear.out_features, rank)
        if tuple(weight.shape) != wanted:
            shapes = f"{_shape(weight.shape)} and must be {_shape(wanted)}"
            raise UserError(f"adapter {folder} does not fit {policy.name}: {key} is {shapes}")
        pairs.setdefault(name, set()).add(kind)
    if not pairs or any(len(kinds) < 2 for kinds in pairs.values()):
        raise UserError(f"adapter {folder} is incomplete: {WEIGHTS} must hold lora_A and lora_B of each layer")
    return sorted(pairs)


def _shape(sizes: Any) -> str:
    return " × ".join(map(str, sizes))

"""Weights, gradients and optimiser states in shares, one to a rank (FSDP2; Zhao et al. 2023, arXiv:2304.11277).

The decoder's layers are sharded; each is made whole when it is computed. Embeddings, the last norm and the head, which
are called apart from the decoder and may be one tensor, stay whole on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.experimental import implicit_replication

from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.training.optimizer import OptimizerName, Optimizers
from thinksmith.training.ranks import Ranks
from thinksmith.training.saver import Saver

_HOOKS = ("_forward_pre_hooks", "_forward_hooks")  # by which a layer is made whole to be computed


class Sharding(Protocol):
    """The table `training` of a recipe, as far as it matters here."""

    @property
    def sharding(self) -> str: ...

    @property
    def optimizer(self) -> str: ...


def check_sharding(training: Sharding, ranks: Ranks, *, copies: bool = False) -> None:
    """Raises UserError for what cannot be sharded. `copies`: the recipe wants a second copy of the weights (GRPO's
    reference where all weights are trained)."""
    if training.sharding == "none":
        return
    if ranks.size == 1:
        raise UserError('training.sharding = "full" needs several processes: start with torchrun, or set it to "none"')
    if training.optimizer != "adamw":
        raise UserError(f'training.sharding = "full" cannot have optimizer = "{training.optimizer}": set it to "adamw"')
    if copies:
        raise UserError(
            'training.sharding = "full" has no reference for beta: set training.tuning to "lora", or beta to 0'
        )


def shard(policy: Policy, ranks: Ranks) -> None:
    """Keep of each decoder layer this rank's share. Raises UserError where the model's layers cannot be cut."""
    decoder: Any = policy.model.get_decoder()
    layers = getattr(decoder, "layers", None)
    plain = all(type(parameter.data) is Tensor for parameter in policy.model.parameters())
    if not isinstance(layers, nn.ModuleList) or not plain:
        raise UserError(f'the layers of {policy.name} cannot be sharded: set training.sharding = "none"')
    inside = {parameter for layer in layers for parameter in layer.parameters()}
    apart = {parameter for parameter in decoder.parameters() if parameter not in inside}
    mesh = init_device_mesh(policy.device.type, (ranks.size,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(decoder, mesh=mesh, ignored_params=apart)
    for module in (decoder, *layers):
        module.set_force_sum_reduction_for_comms(True)
        module.set_gradient_divide_factor(1.0)  # the loss is divided already, by what all ranks have


def is_sharded(model: nn.Module) -> bool:
    return any(isinstance(module, FSDPModule) for module in model.modules())


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Every rank has all weights for as long as the context lasts, as plain parameters, and nothing watches a forward
    pass. What is written to them is lost. All ranks must come here; nothing happens where nothing is sharded."""
    watched = [module for module in model.modules() if isinstance(module, FSDPModule)]
    hooks = [(module, name, module.__dict__[name]) for module in watched for name in _HOOKS]
    shares = [
        (module, name, parameter)
        for module in (model.modules() if hooks else ())
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(parameter, DTensor)
    ]
    # Not by `unshard`: its memory cannot be given back once somebody has looked at it with NumPy.
    for module, name, parameter in shares:
        with torch.no_grad():
            full = parameter.full_tensor()
        module.register_parameter(name, nn.Parameter(full, requires_grad=parameter.requires_grad))
    for watcher, name, watching in hooks:
        watcher.__dict__[name] = type(watching)()
    try:
        yield
    finally:
        for watcher, name, watching in hooks:
            watcher.__dict__[name] = watching
        for module, name, parameter in shares:
            module.register_parameter(name, parameter)


def clip_gradients(parameters: Sequence[Tensor], most: float) -> float:
    """Scale all gradients so that their norm, over all shares, is at most `most`; returns what it was."""
    shares = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    if not shares:
        return float(nn.utils.clip_grad_norm_(parameters, most))
    rest = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    own = [_local(parameter.grad) for parameter in shares if parameter.grad is not None]
    total = nn.utils.get_total_norm(own) ** 2
    distributed.all_reduce(total)
    kept = [parameter.grad for parameter in rest if parameter.grad is not None]
    norm = (total + nn.utils.get_total_norm(kept) ** 2).sqrt()
    scale = torch.clamp(most / (norm + 1e-6), max=1.0)
    for grad in (*own, *kept):
        grad.mul_(scale.to(grad.dtype))
    return float(norm)


class ShardedOptimizers(Optimizers):
    """Optimisers of sharded weights. For a checkpoint their states are gathered, by all ranks at once, on the first."""

    def __init__(self, model: nn.Module, lr: float, *, weight_decay: float = 0.0) -> None:
        super().__init__(model, "adamw", lr, weight_decay=weight_decay)
        for group in self.parts[0].param_groups:
            group["foreach"] = False  # sharded and whole parameters cannot be stepped in one list
        self._gathered: list[dict[str, Any]] = []

    def gather(self, ranks: Ranks) -> None:
        """Make the states whole, in the first rank's memory of the CPU."""
        self._gathered = [_each_tensor(part, lambda tensor: _kept(tensor, ranks)) for part in super().state_dict()]

    def state_dict(self) -> list[dict[str, Any]]:
        """What `gather` found."""
        return self._gathered

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            parameters = [parameter for group in part.param_groups for parameter in group["params"]]
            shares = {
                place: {name: _placed(value, parameters[place]) for name, value in of_one.items()}
                for place, of_one in state["state"].items()
            }
            part.load_state_dict({**state, "state": shares})


def optimizers_of(model: nn.Module, name: OptimizerName, lr: float, *, weight_decay: float = 0.0) -> Optimizers:
    """Optimisers of a model, sharded or not."""
    if is_sharded(model):
        return ShardedOptimizers(model, lr, weight_decay=weight_decay)
    return Optimizers(model, name, lr, weight_decay=weight_decay)


def load_shares(saver: Saver, model: nn.Module) -> tuple[int, dict[str, Any]]:
    """`saver.load()`, of which each rank keeps its share where the model is sharded."""
    with implicit_replication() if is_sharded(model) else nullcontext():
        return saver.load()


def save_whole(
    saver: Saver,
    step: int,
    extra: Callable[[], Mapping[str, Any]],
    *,
    score: float | None,
    model: nn.Module,
    optimizers: Optimizers,
    ranks: Ranks,
) -> None:
    """`saver.after` on the first rank, for which all gather what is sharded when it is due."""
    if not isinstance(optimizers, ShardedOptimizers):
        if ranks.first:
            saver.after(step, extra, score=score)
        return
    if not ranks.by_first(lambda: saver.due(step, score)):
        return
    with whole(model):
        optimizers.gather(ranks)
        ranks.by_first(lambda: saver.after(step, extra, score=score))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _kept(tensor: Tensor, ranks: Ranks) -> Tensor | None:
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.cpu() if ranks.first else None


def _each_tensor(state: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: _each_tensor(value, change) for key, value in state.items()}
    return type(state)(_each_tensor(value, change) for value in state) if isinstance(state, list | tuple) else state


def _placed(value: Any, parameter: Tensor) -> Any:
    """Of a tensor that belongs to a sharded parameter this rank's share."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    whole_value = value.to(parameter.device)
    return distribute_tensor(whole_value, parameter.device_mesh, parameter.placements, src_data_rank=None)

"""How a pass is computed: `TransformersRoad` by the model's own code, on any device; `native/` in C, for some models.

A road writes pieces of prompts into its pool, and draws the next tokens of rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch

from thinksmith.engines.local.attention import SUMMED, Decode, Prefill
from thinksmith.engines.local.cache import BLOCK, SINK, Pool, blocks_for
from thinksmith.engines.local.graphs import Graphs, bucket
from thinksmith.engines.local.prompts import Prompt, together
from thinksmith.engines.local.rows import Row
from thinksmith.engines.local.sampler import Drawn, draw
from thinksmith.engines.local.slots import Slots
from thinksmith.policy.policy import Policy

LEAST = 16  # rows of a step on a CPU: its matrix product takes other paths for few rows, with other last bits
PREFILL_TOKENS = 8192  # at most in one forward pass, padding included
PREFILL_PADDED = 192  # longer pieces are never padded: a CPU's fused attention sums in another order from here on
PREFILL_ENOUGH = 1024  # with so many a pass is efficient: rather another one than more padding
_CACHE_ARGUMENT: dict[Any, str] = {}  # by class, for a signature takes longer to read than a small model's step


class Road(Protocol):
    """The two passes, on a pool of its own."""

    pool: Pool

    @property
    def bytes(self) -> int:
        """Memory that it keeps from pass to pass, beside the pool."""
        ...

    def open(self) -> None:
        """Rows will come in, after there were none: look at the model again."""
        ...

    def release(self) -> None:
        """Give the memory back."""
        ...

    def passes(self, prompts: Iterable[Prompt]) -> list[list[Prompt]]:
        """Which prompts' next pieces are written in one pass."""
        ...

    def write(self, prompts: Sequence[Prompt]) -> None:
        """Write the next pieces of these prompts, which are one of `passes` or part of it."""
        ...

    def step(self, slots: Slots, rows: Sequence[Row]) -> Drawn:
        """The next tokens of these rows, the first of the slots; only for ready ones do they mean anything."""
        ...


class TransformersRoad:
    """The model's own code, with our attention."""

    def __init__(self, policy: Policy, graphs: bool = True) -> None:
        self.pool = Pool(policy.device)
        self._policy = policy
        self._least = LEAST if policy.device.type == "cpu" else 1
        self._graphs = Graphs(self._logits) if graphs and policy.device.type == "cuda" else None
        self._state: tuple[object, ...] = ()  # what graphs were recorded for
        self._watched = False

    @property
    def bytes(self) -> int:
        return 0

    def open(self) -> None:
        if self._graphs is not None:
            state = (self._policy.adapter, *map(_address, self._policy.model.parameters()))
            if state != self._state:
                self._graphs.clear()
            self._state = state
            # A replay runs no Python, so no hook either.
            self._watched = any(map(hooked, self._policy.model.modules()))

    def release(self) -> None:
        self.pool.release()
        if self._graphs is not None:
            self._graphs.clear()

    def passes(self, prompts: Iterable[Prompt]) -> list[list[Prompt]]:
        return together(prompts, PREFILL_TOKENS, PREFILL_PADDED, PREFILL_ENOUGH)

    def write(self, prompts: Sequence[Prompt]) -> None:
        start, width = prompts[0].done, max(prompt.width for prompt in prompts)
        past, piece = blocks_for(start), width // BLOCK
        ids_PT = self._whole([[*prompt.piece, *[0] * (width - len(prompt.piece))] for prompt in prompts])
        blocks = [prompt.blocks[past : past + piece] for prompt in prompts]
        step = Prefill(
            self.pool,
            blocks_PN=self._whole([[*line, *[SINK] * (piece - len(line))] for line in blocks]),
            past_PN=self._whole([prompt.blocks[:past] for prompt in prompts]).view(len(prompts), past),
        )
        positions = torch.arange(start, start + width, device=ids_PT.device)
        self._run(self._policy.model.get_decoder(), ids_PT, positions[None], step)

    def step(self, slots: Slots, rows: Sequence[Row]) -> Drawn:
        height, entries = max(len(rows), self._least), self._entries(rows)
        if self._graphs is not None:
            height, entries = bucket(height, entries, len(slots.last))
        slots.widen(entries)
        ready = slots.ready[:height]
        shared, own = slots.shared[:height] * ready, slots.step[:height] * ready
        table = torch.where(ready[:, None], slots.table[:height, :entries], SINK).long()
        compute = self._graphs.run if self._graphs is not None and not self._watched else self._logits
        drawn = draw(compute(slots.last[:height], shared, own, table), slots.rules(rows, slice(0, height)))
        return drawn.first(len(rows))

    def _logits(
        self, last_B: torch.Tensor, shared_B: torch.Tensor, own_B: torch.Tensor, table_BN: torch.Tensor
    ) -> torch.Tensor:
        """[B, V] in float32."""
        step = Decode(self.pool, table_BN, shared_B, own_B)
        output = self._run(self._policy.model, last_B[:, None], (shared_B + own_B)[:, None], step)
        logits_BV: torch.Tensor = output.logits[:, -1].float()
        return logits_BV

    def _entries(self, rows: Sequence[Row]) -> int:
        """Blocks that a step looks at. A CPU sums one single block, first or last, in another order."""
        entries = max(2, *(len(row.blocks) for row in rows if row.ready))
        return entries + 1 if entries % (SUMMED // BLOCK) == 1 else entries

    def _run(self, model: Any, ids: torch.Tensor, positions: torch.Tensor, step: Prefill | Decode) -> Any:
        # A mask of four dimensions is passed on as it is, so transformers builds none; `slot_attention` has its own.
        mask = torch.empty(1, 1, 1, 1, device=ids.device)
        positions = positions.expand(ids.shape)
        cache = {cache_argument(type(model)): step}
        return model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, slots=step, **cache)

    def _whole(self, numbers: list[Any]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self._policy.device)


def cache_argument(model: Any) -> str:
    """What a class of models calls its cache: transformers 5.24 renamed it."""
    if model not in _CACHE_ARGUMENT:
        renamed = "cache" in inspect.signature(model.forward).parameters
        _CACHE_ARGUMENT[model] = "cache" if renamed else "past_key_values"
    return _CACHE_ARGUMENT[model]


def hooked(module: torch.nn.Module) -> bool:
    """Does somebody want to see, or change, what passes there?"""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _address(tensor: torch.Tensor) -> int:
    """Where a tensor lies; of a quantised one, which is no plain tensor, that it is the same."""
    return tensor.data_ptr() if type(tensor.data) is torch.Tensor else id(tensor)

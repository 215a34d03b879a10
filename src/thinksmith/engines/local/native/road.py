"""The passes of the engine in C, for models of the Llama family in float32 on a CPU.

Results are the same bit for bit whatever is computed beside them, so prompts may be cut and grouped in any way.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import torch

from thinksmith.engines.local.cache import PADDING, Pool
from thinksmith.engines.local.native import model as c
from thinksmith.engines.local.prompts import Prompt
from thinksmith.engines.local.road import LEAST
from thinksmith.engines.local.rows import Row
from thinksmith.engines.local.sampler import Drawn, draw
from thinksmith.engines.local.slots import Slots
from thinksmith.native.build import Sources, library
from thinksmith.policy.policy import Policy

PREFILL_TOKENS = 1024  # at most in one pass
FOLDER = Path(__file__).parent
DECODER = Sources(
    "decoder", (FOLDER / "decoder.c", FOLDER / "draw.c"), ("forward_scratch", "draw_scratch", "panel_lanes")
)
ALL_SHARED = 1 << 30  # of a prompt's tokens, all lie in its blocks


class NativeRoad:
    """Fulfils `thinksmith.engines.local.road.Road`."""

    def __init__(self, policy: Policy) -> None:
        found = library(DECODER)
        assert found is not None, "ask `fits` first"
        self.pool = Pool(policy.device, by_dim=True)
        self._policy = policy
        self._library = found
        self._lanes = int(found.panel_lanes())
        self._model = c.Model()
        self._angles = torch.empty(2, 0, 0)  # cosine and sine [2, positions, dim]
        self._scratch = torch.empty(0)
        self._logits = torch.empty(0)

    @staticmethod
    def fits(policy: Policy) -> bool:
        """Is the model one that the C decoder computes, and is there a compiler?"""
        try:
            c.model_of(policy.model)
        except (c.Unfit, AttributeError):
            return False
        return library(DECODER) is not None

    @property
    def bytes(self) -> int:
        return self._scratch.nbytes + self._logits.nbytes + self._angles.nbytes

    def open(self) -> None:
        self._model = c.model_of(self._policy.model)
        shape = (1, self._model.kv_heads, 1, self._model.dim)
        for index in range(self._model.layers):
            keys, values = self.pool.layer(index, torch.empty(shape), torch.empty(shape))
            self._model.layer[index].keys, self._model.layer[index].values = keys.data_ptr(), values.data_ptr()
        self._angles = torch.empty(2, 0, 0)

    def release(self) -> None:
        self.pool.release()
        self._scratch = self._logits = torch.empty(0)

    def passes(self, prompts: Iterable[Prompt]) -> list[list[Prompt]]:
        found: list[list[Prompt]] = []
        tokens = PREFILL_TOKENS
        for prompt in prompts:
            if tokens + len(prompt.piece) > PREFILL_TOKENS:
                found.append([])
                tokens = 0
            found[-1].append(prompt)
            tokens += len(prompt.piece)
        return found

    def write(self, prompts: Sequence[Prompt]) -> None:
        width = max(len(prompt.blocks) for prompt in prompts)
        lengths = [len(prompt.piece) for prompt in prompts]
        positions = (range(p.done, p.done + length) for p, length in zip(prompts, lengths, strict=True))
        position_N = _whole(list(chain.from_iterable(positions)))
        table = _whole([[*prompt.blocks, *[PADDING] * (width - len(prompt.blocks))] for prompt in prompts])
        self._forward(
            token_N=_whole(list(chain.from_iterable(prompt.piece for prompt in prompts))),
            position_N=position_N,
            shared_N=torch.full_like(position_N, ALL_SHARED),
            line_N=torch.arange(len(prompts), dtype=torch.int32).repeat_interleave(torch.tensor(lengths)),
            table=table,
            draws=False,
        )

    def step(self, slots: Slots, rows: Sequence[Row]) -> Drawn:
        ready = [slot for slot, row in enumerate(rows) if row.ready]
        line_N = _whole(ready)
        shared_N, step_N = slots.shared[line_N], slots.step[line_N]
        logits_PVL = self._forward(
            token_N=slots.last[line_N].int(),
            position_N=(shared_N + step_N).int(),
            shared_N=shared_N.int(),
            line_N=line_N,
            table=slots.table,
            draws=True,
        )
        token_N, logprob_N = self._draw(logits_PVL, slots.key[line_N], step_N, slots.real[0, line_N])
        token_B = torch.zeros(len(rows), dtype=torch.int64)
        logprob_B = torch.zeros(len(rows))
        token_B[line_N], logprob_B[line_N] = token_N, logprob_N
        special = [at for at, slot in enumerate(ready) if _special(rows[slot])]
        if not special:
            return Drawn(token_B, logprob_B)
        logits_RV = [self._row(logits_PVL, at, len(ready)) for at in special]
        return self._redraw(slots, [rows[ready[at]] for at in special], logits_RV, Drawn(token_B, logprob_B))

    def _forward(
        self,
        token_N: torch.Tensor,
        position_N: torch.Tensor,
        shared_N: torch.Tensor,
        line_N: torch.Tensor,
        table: torch.Tensor,
        draws: bool,
    ) -> torch.Tensor:
        """Keys and values of these tokens (all int32), and their logits [panels, vocabulary, lanes] if `draws`."""
        self._turn(int(position_N.max()) + 1)
        count = len(token_N)
        rows = c.Rows(
            n=count,
            drawn=int(draws),
            width=table.shape[1],
            token=token_N.data_ptr(),
            position=position_N.data_ptr(),
            shared=shared_N.data_ptr(),
            line=line_N.data_ptr(),
            table=table.data_ptr(),
        )
        threads = torch.get_num_threads()
        model, asked = ctypes.byref(self._model), ctypes.byref(rows)
        self._reserve(self._library.forward_scratch(model, asked, ctypes.c_int64(threads)))
        panels = -(-count // self._lanes)
        if draws and self._logits.numel() < panels * self._lanes * self._model.vocab:
            self._logits = torch.empty(panels * self._lanes * self._model.vocab)
        self._library.forward(model, asked, _at(self._scratch), _at(self._logits), ctypes.c_int64(threads))
        return self._logits

    def _draw(
        self, logits_PVL: torch.Tensor, key_N: torch.Tensor, step_N: torch.Tensor, temperature_N: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and log-probabilities, as if no row had a filter."""
        token_N, logprob_N = torch.empty_like(key_N), torch.empty(len(key_N))
        threads, vocab = ctypes.c_int64(torch.get_num_threads()), ctypes.c_int64(self._model.vocab)
        self._reserve(self._library.draw_scratch(vocab, threads))
        arrays = key_N, step_N, temperature_N, token_N, logprob_N, self._scratch
        self._library.draw(_at(logits_PVL), ctypes.c_int64(len(key_N)), vocab, *map(_at, arrays), threads)
        return token_N, logprob_N

    @staticmethod
    def _redraw(slots: Slots, rows: Sequence[Row], logits: Sequence[torch.Tensor], drawn: Drawn) -> Drawn:
        """Draw rows with filters, or that are steered, again by the rules of `sampler.py`. Whether a row is one of them
        never changes, so its tokens do not depend on its company."""
        # At least so many rows: torch's reductions take other paths for fewer.
        padded = [*range(len(rows)), *[0] * (LEAST - len(rows))]
        slot_R = torch.tensor([rows[at].slot for at in padded])
        logits_RV = torch.stack([logits[at] for at in padded])
        again = draw(logits_RV, slots.rules(rows, slot_R)).first(len(rows))
        target_R = slot_R[: len(rows)]
        drawn.token_B[target_R], drawn.logprob_B[target_R] = again.token_B, again.logprob_B
        swapped_B, top = None, None
        if again.swapped_B is not None:
            swapped_B = torch.zeros(len(drawn.token_B), dtype=torch.bool).index_copy_(0, target_R, again.swapped_B)
        if again.top is not None:
            empty = (len(drawn.token_B), again.top[0].shape[1])
            top = (
                torch.zeros(empty, dtype=torch.int64).index_copy_(0, target_R, again.top[0]),
                torch.zeros(empty).index_copy_(0, target_R, again.top[1]),
            )
        return Drawn(drawn.token_B, drawn.logprob_B, swapped_B, top)

    def _row(self, logits_PVL: torch.Tensor, row: int, count: int) -> torch.Tensor:
        """Logits of one row; the last panel is half as wide where that does."""
        panel, lane = divmod(row, self._lanes)
        lanes = self._lanes // 2 if count - panel * self._lanes <= self._lanes // 2 else self._lanes
        start, vocab = panel * self._lanes * self._model.vocab, self._model.vocab
        return logits_PVL[start : start + vocab * lanes].view(vocab, lanes)[:, lane]

    def _turn(self, positions: int) -> None:
        """Have the cosines and sines of so many positions, as transformers computes them."""
        if self._angles.shape[1] < positions:
            positions = min(max(2 * positions, 256), max(self._policy.context_length, positions))
            rotary = self._policy.model.model.rotary_emb
            cos, sin = rotary(torch.empty(1), torch.arange(positions)[None])
            self._angles = torch.stack((cos[0], sin[0])).contiguous()
            self._model.cos, self._model.sin = self._angles[0].data_ptr(), self._angles[1].data_ptr()

    def _reserve(self, floats: int) -> None:
        if self._scratch.numel() < floats:
            self._scratch = torch.empty(floats)


def _special(row: Row) -> bool:
    """Does it take more than a temperature to draw its tokens?"""
    s = row.job.request.sampling
    filters = s.top_k > 0 or s.top_p < 1 or s.min_p > 0 or s.repetition_penalty != 1 or s.top_logprobs > 0
    return filters or row.watch is not None


def _whole(numbers: list[int] | list[list[int]]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def _at(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())

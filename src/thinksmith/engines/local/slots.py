"""What the device knows of the rows: row i of the batch is element i of every tensor here, its slot.

Rows come and go between steps: new ones are appended, and where one ends the last takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from thinksmith.engines.local.cache import PADDING
from thinksmith.engines.local.rows import Row
from thinksmith.engines.local.sampler import Rules, row_key
from thinksmith.fit.rounding import round_up
from thinksmith.policy.policy import Policy

ENTRIES = 8  # a table grows by so many blocks, or by half


class Slots:
    """Tensors of `height` slots. A row's position is `shared + step`."""

    def __init__(self, policy: Policy, height: int) -> None:
        self._policy = policy
        device = policy.device
        self.last = torch.zeros(height, dtype=torch.int64, device=device)  # the token that the next step reads
        self.step = torch.zeros(height, dtype=torch.int64, device=device)  # tokens sampled
        self.shared = torch.zeros(height, dtype=torch.int64, device=device)  # tokens of the prompt before `last`
        self.ready = torch.zeros(height, dtype=torch.bool, device=device)  # the prompt is in the pool
        self.key = torch.zeros(height, dtype=torch.int64, device=device)
        self.top_k = torch.zeros(height, dtype=torch.int64, device=device)
        self.real = torch.zeros(4, height, device=device)  # temperature, top_p, min_p, repetition penalty
        # Each row's blocks: those of its prompt, then its own.
        self.table = torch.full((height, 0), PADDING, dtype=torch.int32, device=device)
        # [height, vocabulary]: the ids that a row holds; made when a penalty needs it.
        self.seen: torch.Tensor | None = None

    def write(self, new: Sequence[Row], start: int) -> None:
        """Tell of new rows, which begin at slot `start`."""
        part = slice(start, start + len(new))
        sampling = [row.job.request.sampling for row in new]
        self.last[part] = self.whole([row.job.prompt[-1] for row in new])
        self.step[part] = 0
        self.shared[part] = self.whole([len(row.job.prompt) - 1 for row in new])
        self.key[part] = self.whole([row_key(row.job.request.sampling.seed, row.index) for row in new])
        self.top_k[part] = self.whole([s.top_k if s.top_k > 0 else self._policy.vocab_size for s in sampling])
        self.real[:, part] = torch.tensor(
            [[s.temperature, s.top_p, s.min_p, s.repetition_penalty] for s in sampling], device=self._policy.device
        ).T
        self.widen(max(len(row.blocks) for row in new))
        width = self.table.shape[1]
        lines = [[*row.blocks, *[PADDING] * (width - len(row.blocks))] for row in new]
        self.table[part] = self.whole(lines).int()
        self._write_seen(new, start)

    def widen(self, entries: int) -> None:
        """Make room for so many blocks a row."""
        height, width = self.table.shape
        if entries > width:
            wider = self.table.new_full((height, round_up(max(entries, width * 3 // 2), ENTRIES)), PADDING)
            wider[:, :width] = self.table
            self.table = wider

    def append(self, rows: Sequence[Row]) -> None:
        """Each of these rows has one more block than the table knows of."""
        if rows:
            self.widen(max(len(row.blocks) for row in rows))
            where = self.whole([row.slot for row in rows]), self.whole([len(row.blocks) - 1 for row in rows])
            self.table[where] = self.whole([row.blocks[-1] for row in rows]).int()

    def mark(self, rows: Sequence[Row]) -> None:
        """Tell whether these rows' prompts are written."""
        if rows:
            self.ready[self.whole([row.slot for row in rows])] = torch.tensor(
                [row.ready for row in rows], device=self._policy.device
            )

    def advance(self, count: int, token_B: torch.Tensor) -> None:
        """The first `count` rows drew these tokens, as far as they are ready."""
        ready = self.ready[:count]
        self.last[:count] = torch.where(ready, token_B.clamp(min=0), self.last[:count])
        self.step[:count] += ready
        if self.seen is not None:
            self.seen[:count].scatter_(1, self.last[:count, None], True)

    def move(self, source: list[int], target: list[int]) -> None:
        source_R, target_R = self.whole(source), self.whole(target)
        for state in (self.last, self.step, self.shared, self.ready, self.key, self.top_k, self.table):
            state[target_R] = state[source_R]
        self.real[:, target_R] = self.real[:, source_R]
        if self.seen is not None:
            self.seen[target_R] = self.seen[source_R]

    def empty(self, first: int) -> None:
        """The slots from `first` on are idle: what they compute is thrown away."""
        self.ready[first:] = False

    def rules(self, rows: Sequence[Row], where: slice | torch.Tensor) -> Rules:
        """How the next tokens of `rows` are drawn, which are the first of the slots `where`. A filter that no row uses
        costs nothing."""
        sampling = [row.job.request.sampling for row in rows]
        penalty = any(s.repetition_penalty != 1 for s in sampling)
        ban, allow, swap, force = self._steering(rows)
        return Rules(
            key_B=self.key[where],
            step_B=self.step[where],
            temperature_B=self.real[0, where],
            greedy=all(s.temperature <= 0 for s in sampling),
            top_k_B=self.top_k[where] if any(s.top_k > 0 for s in sampling) else None,
            top_p_B=self.real[1, where] if any(s.top_p < 1 for s in sampling) else None,
            min_p_B=self.real[2, where] if any(s.min_p > 0 for s in sampling) else None,
            penalty_B=self.real[3, where] if penalty else None,
            seen_BV=self.seen[where] if penalty and self.seen is not None else None,
            ban=ban,
            allow=allow,
            swap=swap,
            force=force,
            top=min(max((s.top_logprobs for s in sampling), default=0), self._policy.vocab_size),
        )

    def whole(self, numbers: list[Any]) -> torch.Tensor:
        """Integers (or rows of them) on the device."""
        return torch.tensor(numbers, dtype=torch.int64, device=self._policy.device)

    def _write_seen(self, new: Sequence[Row], start: int) -> None:
        penalised = [row for row in new if row.job.request.sampling.repetition_penalty != 1]
        if self.seen is None and penalised:
            shape = len(self.last), self._policy.vocab_size
            self.seen = torch.zeros(shape, dtype=torch.bool, device=self._policy.device)
        if self.seen is not None:
            self.seen[start : start + len(new)] = False
            for row in penalised:
                self.seen[row.slot, self.whole(list(row.job.prompt))] = True

    def _steering(self, rows: Sequence[Row]) -> tuple[Any, Any, Any, Any]:
        """`ban`, `allow`, `swap` and `force` of the rules."""
        steers = [(at, row.watch.before(row)) for at, row in enumerate(rows) if row.watch and row.ready]
        withholding = [at for at, steer in steers if steer.withhold is not None and steer.instead is None]
        swap = [(at, steer.instead) for at, steer in steers if steer.instead is not None]
        force = [(at, steer.force) for at, steer in steers if steer.force is not None]
        allow = [(at, steer.allow) for at, steer in steers if steer.allow is not None]
        pairs = [(at, token) for at, steer in steers for token in steer.ban]
        # What is withheld is a matter of the model, so it is the same for all rows.
        withheld = next((steer.withhold for _, steer in steers if steer.withhold is not None), None)
        return (
            self._banned(withholding, withheld, pairs),
            (self.whole([at for at, _ in allow]), torch.stack([bits for _, bits in allow]).to(self.last.device))
            if allow
            else None,
            (self.whole([at for at, _ in swap]), withheld, self.whole([i for _, i in swap])) if swap else None,
            (self.whole([at for at, _ in force]), self.whole([i for _, i in force])) if force else None,
        )

    def _banned(self, rows: list[int], ids: torch.Tensor | None, pairs: list[tuple[int, int]]) -> Any:
        """Pairs of a row and an id: all of `ids` for these rows, and `pairs`."""
        found = [(self.whole([at for at, _ in pairs]), self.whole([token for _, token in pairs]))] if pairs else []
        if rows and ids is not None:
            found.append((self.whole(rows).repeat_interleave(len(ids)), ids.repeat(len(rows))))
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True)) if found else None

"""Group-relative policy optimisation (Shao et al. 2024, arXiv:2402.03300): roll out, compare within the group, update.

The same weights are sampled and trained. A run folder holds all that is needed to repeat or to resume it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thinksmith.audit.audit import audit
from thinksmith.engines.contract import Engine, Releases
from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.records import Attempt, Problem, Sampling, Trace
from thinksmith.training import checkpoint
from thinksmith.training.batches import Example, micro_batches
from thinksmith.training.optimizer import Optimizers, warmup_stable_decay
from thinksmith.training.rl.advantages import group_advantages
from thinksmith.training.rl.losses import Normaliser, clipped_loss
from thinksmith.training.rl.recipe import GRPORecipe, TrainingTable
from thinksmith.training.rl.rollout import Rollout, roll_out
from thinksmith.training.run_folder import write_whole

Metrics = dict[str, float]


def train(
    policy: Policy,
    engine: Engine,
    problems: Sequence[Problem],
    recipe: GRPORecipe,
    folder: Path,
    *,
    on_step: Callable[[Metrics], None] = lambda metrics: None,
    on_attempts: Callable[[Sequence[Attempt]], object] = lambda attempts: None,
) -> None:
    """Train `policy` in place on `problems` for `recipe.steps` steps, resuming from the folder's last checkpoint.

    Writes metrics.jsonl (a row per finished step), checkpoints/ and at the end model/. Ctrl-C leaves the last
    checkpoint, from which the same call goes on.
    """
    training = recipe.training
    optimizers = Optimizers(policy.model, "adamw", training.lr, weight_decay=training.weight_decay)
    start, _ = checkpoint.load(folder / "checkpoints", policy.model, optimizers)
    policy.touch()
    metrics_path = folder / "metrics.jsonl"
    _keep_rows(metrics_path, start)
    sampling = Sampling(temperature=recipe.rollout.temperature, max_tokens=recipe.rollout.max_tokens, seed=recipe.seed)
    for step in range(start, recipe.steps):
        began = time.perf_counter()
        rollout = roll_out(
            engine,
            step_problems(problems, recipe.rollout.prompts, step, recipe.seed),
            sampling,
            num_generations=recipe.rollout.num_generations,
            step=step,
            weights=recipe.rewards,
        )
        if isinstance(engine, Releases):
            engine.release()  # the backward pass wants the memory; what was cached of prompts is void after the update
        rolled = time.perf_counter()
        metrics = {"step": step + 1, **describe(rollout)}
        scale = warmup_stable_decay(step, recipe.steps, training.warmup, training.decay)
        metrics |= update(policy, rollout, training, optimizers, scale, recipe.rollout.max_tokens)
        ended = time.perf_counter()
        tokens = sum(attempt.trace.tokens for attempt in rollout.attempts)
        metrics |= {
            "rollout_tokens_per_s": tokens / (rolled - began),
            "train_tokens_per_s": metrics["trained_tokens"] / (ended - rolled),
            "rollout_seconds": rolled - began,
            "train_seconds": ended - rolled,
            "seconds": ended - began,
        }
        on_attempts(rollout.attempts)
        _add_row(metrics_path, metrics)
        if training.save_every and (step + 1) % training.save_every == 0 and step + 1 < recipe.steps:
            checkpoint.save(folder / "checkpoints", step + 1, policy.model, optimizers, {})
        on_step(metrics)
    checkpoint.save(folder / "checkpoints", recipe.steps, policy.model, optimizers, {})
    checkpoint.save_model(folder / "model", policy.model, policy.tokenizer)


def step_problems(problems: Sequence[Problem], count: int, step: int, seed: int) -> list[Problem]:
    """The problems of a step: the pool in an order shuffled anew for every pass, a function of (seed, step) alone."""
    chosen: list[Problem] = []
    position = step * count
    while len(chosen) < count:
        epoch, offset = divmod(position + len(chosen), len(problems))
        order = list(range(len(problems)))
        Random(f"{seed}:{epoch}").shuffle(order)
        chosen += [problems[i] for i in order[offset : offset + count - len(chosen)]]
    return chosen


def update(
    policy: Policy,
    rollout: Rollout,
    training: TrainingTable,
    optimizers: Optimizers,
    lr_scale: float,
    max_tokens: int,
) -> Metrics:
    """One optimiser step. Completions with advantage 0 have no gradient and are not computed."""
    advantages_N = group_advantages(rollout.rewards, rollout.groups, scale=training.scale_rewards)
    traces = [attempt.trace for attempt in rollout.attempts]
    lengths = tuple(len(trace.token_ids) - len(trace.forced) for trace in traces)
    normaliser = Normaliser(training.loss_type, lengths, max_tokens)
    kept = [int(i) for i in np.flatnonzero(advantages_N) if lengths[i]]
    examples = [Example(traces[i].prompt_ids, traces[i].token_ids, traces[i].forced) for i in kept]
    totals = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "gap": 0.0, "largest_gap": 0.0, "tokens": 0.0}
    pad_id = policy.tokenizer.pad_token_id or 0
    for batch in micro_batches(examples, pad_id, training.micro_tokens):
        rows = [kept[i] for i in batch.indices]
        device = policy.device
        completion_BT = batch.completion_BT.to(device)
        logprobs_N = policy.logprobs(batch.input_ids_BT.to(device), completion_BT).logprobs_BT[completion_BT]
        old_N = torch.tensor([x for i in rows for x in _old_logprobs(traces[i])], device=device)
        loss = clipped_loss(
            logprobs_N,
            old_N,
            _per_token([float(advantages_N[i]) for i in rows], [lengths[i] for i in rows], device),
            _per_token(normaliser.weights(rows), [lengths[i] for i in rows], device),
            clip_low=training.epsilon,
            clip_high=training.epsilon_high,
        )
        loss.value.backward()  # type: ignore[no-untyped-call]
        gap_N = (logprobs_N.detach() - old_N).abs()
        totals["loss"] += loss.value.item()
        totals["kl"] += loss.kl_sum
        totals["clipped"] += loss.clipped
        totals["gap"] += float(gap_N.sum())
        totals["largest_gap"] = max(totals["largest_gap"], float(gap_N.max()))
        totals["tokens"] += loss.tokens
    norm = 0.0
    if examples:
        norm = float(nn.utils.clip_grad_norm_(policy.model.parameters(), training.max_grad_norm))
        optimizers.step(lr_scale)
        policy.touch()
    tokens = max(totals["tokens"], 1.0)
    return {
        "loss": totals["loss"],
        "kl": totals["kl"] / tokens,
        "clip_share": totals["clipped"] / tokens,
        "logprob_gap": totals["gap"] / tokens,
        "largest_logprob_gap": totals["largest_gap"],
        "grad_norm": norm,
        "kept_share": len(kept) / len(lengths),
        "trained_tokens": float(sum(example.tokens for example in examples)),
    }


def _old_logprobs(trace: Trace) -> list[float]:
    """Those of the tokens that the model chose."""
    if trace.logprobs is None:
        raise ValueError("GRPO needs an engine that gives log-probabilities")
    forced = set(trace.forced)
    return [logprob for position, logprob in enumerate(trace.logprobs) if position not in forced]


def _per_token(values: Sequence[float], lengths: Sequence[int], device: torch.device) -> Tensor:
    """Each completion's value repeated for its tokens, in the row order of a micro-batch."""
    return torch.repeat_interleave(torch.tensor(values, device=device), torch.tensor(lengths, device=device))


def describe(rollout: Rollout) -> Metrics:
    """What the step's attempts look like: means over all of them; shares lie in 0..1, lengths are in tokens."""
    attempts = rollout.attempts
    audits = [audit(attempt.trace, attempt.problem) for attempt in attempts]
    rewards = [reward for reward in rollout.rewards if reward is not None]
    metrics: dict[str, Any] = {
        "reward": _mean(rewards),
        "accuracy": _mean([attempt.verdict.correct for attempt in attempts]),
        "thinking_tokens": _mean([attempt.trace.thinking_tokens for attempt in attempts]),
        "check_share": _mean([found.has_check for found in audits]),
        "backtrack_share": _mean([found.has_backtrack for found in audits]),
        "check_or_backtrack_share": _mean([found.has_check or found.has_backtrack for found in audits]),
        "truncated_share": _mean([attempt.verdict.status == "truncated" for attempt in attempts]),
        "no_answer_share": _mean([attempt.verdict.status == "no_answer" for attempt in attempts]),
    }
    for name in rollout.parts[0]:
        values = [parts[name] for parts in rollout.parts]
        metrics[f"reward/{name}"] = _mean([value for value in values if value is not None])
    return metrics


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _add_row(path: Path, metrics: Metrics) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; free some space and resume") from None


def _keep_rows(path: Path, steps: int) -> None:
    """Drop rows of steps that were not saved in a checkpoint; they will be done again."""
    if not path.exists():
        return
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= steps:
                rows.append(line + "\n")
        except (ValueError, KeyError):
            continue  # a line cut off by a kill
    write_whole(path, "".join(rows))

"""Steps of TRL's GRPOTrainer, timed; with given lengths where a task says them."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PrinterCallback, TrainerCallback

from _grpo_ours import LR, Timed
from _grpo_work import Task, Work, text_reward_trl
from thinksmith.records import Problem


def quiet() -> None:
    """No progress bars and no advice."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", module="(trl|transformers|accelerate|torch).*")
    for name in ("transformers", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)


def settings(folder: str, **more: Any) -> Any:
    """What a run of TRL's has in common with ours: float32 on a CPU, nothing logged or saved, no checkpointing.
    Generation is as its defaults have it."""
    from trl import GRPOConfig

    gpu = torch.cuda.is_available()
    shared: dict[str, Any] = {
        "output_dir": folder, "use_cpu": not gpu, "bf16": gpu, "report_to": [], "logging_strategy": "no",
        "save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False, "temperature": 1.0,
        "loss_type": "dapo", "beta": 0.0, "learning_rate": LR, "lr_scheduler_type": "constant",
        "dataloader_pin_memory": gpu,
    }  # fmt: skip
    return GRPOConfig(**(shared | more))


def batch_settings(prompts: int, generations: int, rows: int) -> dict[str, int]:
    """One optimiser step on all completions, in passes of so many sequences."""
    assert prompts * generations % rows == 0, "TRL's passes are of one size"
    return {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": prompts * generations // rows,
        "num_generations": generations,
    }


def dataset_of(problems: Sequence[Problem], times: int = 1) -> Any:
    from datasets import Dataset

    rows = [{"prompt": [dict(message) for message in problem.messages]} for problem in problems]
    return Dataset.from_list(rows * times)


class _GivenLengths(LogitsProcessor):  # type: ignore[misc]
    """Row i ends with the model's end of turn as its token number `lengths[i]`, and not before."""

    def __init__(self, lengths: Sequence[int], width: int, eos: int, device: torch.device) -> None:
        self._lengths_B = torch.tensor(lengths, device=device)
        self._ends, self._width, self._eos = frozenset(lengths), width, eos

    def __call__(self, ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
        count = ids_BT.shape[1] - self._width + 1
        scores_BV[:, self._eos] = -torch.inf
        if count in self._ends:
            ending_B = self._lengths_B == count
            scores_BV[ending_B] = -torch.inf
            scores_BV[ending_B, self._eos] = 0.0
        return scores_BV


def give_lengths(model: Any, lengths: Sequence[int], eos: int) -> None:
    """From now on `model.generate` ends its rows so. Rows come in the dataset's order."""
    generate = model.generate

    def given(**inputs: Any) -> Tensor:
        width, device = inputs["input_ids"].shape[1], inputs["input_ids"].device
        processor = _GivenLengths(lengths, width, eos, device)
        found: Tensor = generate(**inputs, logits_processor=LogitsProcessorList([processor]))
        return found

    model.generate = given


class _Clock(TrainerCallback):  # type: ignore[misc]
    """When each step ended, and what of it was the rollout and the rewards."""

    def __init__(self) -> None:
        self.timed = Timed()
        self.trainer: Any = None
        self._ended = self._generated = self._rewarded = 0.0

    def watch(self, trainer: Any) -> None:
        self.trainer = trainer
        whole, rewards = trainer._generate_and_score_completions, trainer._calculate_rewards

        def generated(*arguments: Any) -> Any:
            return self._taking("_generated", whole, *arguments)

        def rewarded(*arguments: Any) -> Any:
            return self._taking("_rewarded", rewards, *arguments)

        trainer._generate_and_score_completions = generated
        trainer._calculate_rewards = rewarded

    def _taking(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        found = work(*arguments)
        setattr(self, name, getattr(self, name) + time.perf_counter() - began)
        return found

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._ended:
            whole = now - self._ended
            self.timed.seconds.append(whole)
            self.timed.rollout.append(self._generated - self._rewarded)
            self.timed.reward.append(self._rewarded)
            self.timed.update.append(whole - self._generated)
            mean = self.trainer._metrics["train"]["completions/mean_length"][-1]
            self.timed.tokens.append(mean * args.generation_batch_size)
        self._ended, self._generated, self._rewarded = now, 0.0, 0.0


def run_trl(model: Any, tokenizer: Any, work: Work, task: Task, steps: int) -> Timed:
    """`steps` steps after a first one that is not counted. Every step has all problems of the task, in order."""
    from trl import GRPOTrainer

    quiet()
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = settings(
            folder,
            max_steps=steps + 1,
            max_completion_length=work.most,
            shuffle_dataset=False,
            **batch_settings(work.prompts, work.generations, work.trl_rows),
        )
        trainer = GRPOTrainer(
            model=model.train(),
            reward_funcs=text_reward_trl,
            args=arguments,
            train_dataset=dataset_of(task.problems, steps + 1),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        lengths = [length for problem in task.problems for length in task.lengths[problem.text]]
        give_lengths(model, lengths, tokenizer.eos_token_id)
        clock.watch(trainer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.timed

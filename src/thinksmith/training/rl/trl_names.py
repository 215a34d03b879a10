"""What TRL and transformers call things, for people who bring their settings along: (the name there) -> (here)."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "model_name_or_path": "model",
    "dataset_name": "problems",
    "train_dataset": "problems",
    "eval_dataset": "evaluation.problems",
    "learning_rate": "training.lr",
    "max_completion_length": "rollout.max_tokens",
    "max_new_tokens": "rollout.max_tokens",
    "num_generations_eval": "evaluation.n (problems, one attempt at each)",
    "data_seed": "seed",
    "max_steps": "steps",
    "num_train_epochs": "steps: a step asks rollout.prompts problems, so an epoch is problems / prompts of them",
    "per_device_train_batch_size": "rollout.prompts (groups of a step); training.micro_tokens bounds the memory",
    "per_device_eval_batch_size": "nothing to set: the engine fills its batch itself",
    "generation_batch_size": "rollout.prompts * rollout.num_generations",
    "gradient_accumulation_steps": "training.micro_tokens: a step is cut into micro-batches of so many tokens",
    "steps_per_generation": "training.minibatches: optimiser steps in one pass over a rollout",
    "optim": "training.optimizer",
    "warmup_steps": "training.warmup, in steps",
    "warmup_ratio": "training.warmup, in steps",
    "reward_funcs": "the names in [rewards]",
    "reward_weights": "the values in [rewards], by name",
    "importance_sampling_level": 'training.loss_type = "gspo" for "sequence"; the other losses are on tokens',
    "report_to": "track, a list",
    "output_dir": "--out of the command line",
    "resume_from_checkpoint": "the same command with the same --out: it goes on where it stopped",
    "save_steps": "training.save_every",
    "save_strategy": "training.save_every",
    "eval_steps": "evaluation.every",
    "eval_strategy": "evaluation.every",
    "do_eval": "evaluation.every",
    "use_peft": 'training.tuning = "lora"',
    "peft_config": 'training.tuning = "lora" with the table [lora]',
    "lora_r": "lora.rank",
    "r": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.targets",
    "target_modules": "lora.targets",
    "load_in_4bit": 'part of the model\'s name: model = "NAME:int4"',
    "load_in_8bit": 'part of the model\'s name: model = "NAME:int8"',
    "bf16": 'part of the model\'s name: model = "NAME:bfloat16"; it is the default on a GPU',
    "fp16": 'part of the model\'s name: model = "NAME:float16"',
    "torch_dtype": 'part of the model\'s name: model = "NAME:bfloat16"',
    "dtype": 'part of the model\'s name: model = "NAME:bfloat16"',
    "shuffle_dataset": "nothing to set: every pass over the pool is shuffled by the seed",
    "logging_steps": "nothing to set: every step has a row in metrics.jsonl",
    "logging_strategy": "nothing to set: every step has a row in metrics.jsonl",
    "log_completions": "nothing to set: every attempt is stored, see thinksmith traces",
    "num_completions_to_print": "nothing to set: every attempt is stored, see thinksmith traces",
    "log_unique_prompts": "nothing to set: every attempt is stored, see thinksmith traces",
    "disable_dropout": "nothing to set: the policy is trained without dropout, but for lora.dropout",
    "use_cache": "nothing to set: the engine has its own cache",
    "remove_unused_columns": "nothing to set: columns that are not mapped go into the problem's meta",
    "max_prompt_length": "nothing: prompts are never cut; one that is too long is refused before the run",
    "cast_lm_head_to_fp32": "nothing to set: log-probabilities are computed in float32",
}

ABSENT: Mapping[str, str] = {
    "use_vllm": "the local engine samples the weights that are trained; leave it out",
    "use_transformers_continuous_batching": "the local engine batches continuously; leave it out",
    "use_transformers_paged": "the local engine batches continuously; leave it out",
    "transformers_continuous_batching_config": "the local engine batches continuously; leave it out",
    "use_liger_kernel": "log-probabilities are computed in chunks anyway; leave it out",
    "repetition_penalty": "it would sample from another distribution than the one that is trained; "
    "use the reward repetition",
    "generation_kwargs": "the keys of [rollout] are all there are",
    "model_init_kwargs": "the model's name says how its weights are held, as NAME:bfloat16",
    "chat_template_kwargs": "the template is used as the model brings it",
    "trust_remote_code": "code of a model's folder is never run",
    "sync_ref_model": "the reference stays as the run began",
    "entropy_coef": "look at training.top_entropy_quantile, or a higher epsilon_high",
    "use_adaptive_entropy": "look at training.top_entropy_quantile, or a higher epsilon_high",
    "multi_objective_aggregation": "rewards are added by their weights",
    "push_to_hub": "nothing is sent anywhere; the run folder holds the model",
}

FAMILIES: Mapping[str, str] = {
    "vllm_": ABSENT["use_vllm"],
    "ref_model_": ABSENT["sync_ref_model"],
    "entropy_": ABSENT["entropy_coef"],
    "hub_": ABSENT["push_to_hub"],
    "log_completions_hub": ABSENT["push_to_hub"],
    "sapo_": "the loss sapo is not among those of training.loss_type",
    "vespo_": "the loss vespo is not among those of training.loss_type",
}
"""Beginnings of names that share an answer."""


def elsewhere(name: str) -> str | None:
    """What to write here instead of TRL's `name`, as the end of a line; None for a name that TRL has not."""
    if name in RENAMED:
        return f"TRL's {name} is {RENAMED[name]} here"
    reason = ABSENT.get(name) or next((why for start, why in FAMILIES.items() if name.startswith(start)), None)
    return reason and f"there is no {name} here: {reason}"

"""What TRL and transformers call things, for people who bring their settings of SFT or DPO along."""

from __future__ import annotations

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "model_name_or_path": "model",
    "dataset_name": "data",
    "train_dataset": "data",
    "eval_dataset": "evaluation.data",
    "learning_rate": "training.lr",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_length": "batch.max_length; longer samples are dropped, never cut",
    "max_seq_length": "batch.max_length; longer samples are dropped, never cut",
    "per_device_train_batch_size": "batch.samples (of a step, of all processes); training.micro_tokens bounds memory",
    "per_device_eval_batch_size": "training.micro_tokens",
    "gradient_accumulation_steps": "training.micro_tokens: a step is cut into passes of so many tokens",
    "optim": "training.optimizer",
    "warmup_ratio": "training.warmup, a share of the steps",
    "warmup_steps": "training.warmup, a share of the steps",
    "eval_steps": "evaluation.every",
    "eval_strategy": "evaluation.every",
    "early_stopping_patience": "evaluation.patience",
    "load_best_model_at_end": 'evaluation.keep = "best"',
    "save_steps": "training.save_every",
    "save_strategy": "training.save_every",
    "report_to": "track, a list",
    "output_dir": "--out of the command line",
    "resume_from_checkpoint": "the same command with the same --out: it goes on where it stopped",
    "packing": "nothing to set: whole samples are always packed, and see themselves alone",
    "padding_free": "nothing to set: whole samples are always packed, and see themselves alone",
    "packing_strategy": "nothing to set: whole samples are always packed, and see themselves alone",
    "completion_only_loss": "nothing to set: completions alone are learnt",
    "assistant_only_loss": "nothing to set: completions alone are learnt",
    "use_liger_kernel": "nothing to set: log-probabilities are computed in chunks anyway",
    "chat_template_path": "nothing to set: the model's own template is used; thinking says whether it opens <think>",
    "use_peft": 'training.tuning = "lora"',
    "lora_r": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_target_modules": "lora.targets",
    "target_modules": "lora.targets",
    "bf16": 'part of the model\'s name: model = "NAME:bfloat16"; it is the default on a GPU',
    "torch_dtype": 'part of the model\'s name: model = "NAME:bfloat16"',
    "dtype": 'part of the model\'s name: model = "NAME:bfloat16"',
    "logging_steps": "nothing to set: every step has a row in metrics.jsonl",
    "data_seed": "seed",
    "ref_model": "nothing to set: the reference is the model as it is before training",
    "precompute_ref_log_probs": "nothing to set: that is what is done",
    "loss_type": "nothing to set: SFT learns by the negative log-likelihood, DPO by the sigmoid loss",
}


def elsewhere(name: str) -> str | None:
    """What to write here instead of TRL's `name`, as the end of a line; None for a name that TRL has not."""
    return f"TRL's {name} is {RENAMED[name]} here" if name in RENAMED else None

"""A tokenizer is what its tokenizer.json says, whatever the architecture beside it."""

from __future__ import annotations

from pathlib import Path

from thinksmith.policy.load import load_tokenizer
from thinksmith.recipes.tiny.make import new_model
from thinksmith.recipes.tiny.tokenizer import corpus, train_tokenizer

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}


def test_a_qwen2_folder_keeps_its_own_way_to_cut_texts(tmp_path: Path) -> None:
    trained = train_tokenizer(corpus(0, 50), 500)
    trained.save_pretrained(tmp_path)
    new_model(SHAPE, trained, seed=0).save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "<|im_start|>user\nWhat is 27 * (34 - 5)?<|im_end|>\n<think>\n27 * 29 = 783.\n</think>"
    assert loaded(text)["input_ids"] == trained(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.eos_token == "<|im_end|>"
    assert loaded.chat_template == trained.chat_template

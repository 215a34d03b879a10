"""llama.cpp on the same weights: a GGUF file of a Qwen2 or Qwen3, and a loop over llama.cpp's own batches.

Needs llama-cpp-python and gguf (the `bench` extra).
"""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch

from _peers import Rows, Way
from _shapes import Workload

PIECE = 512  # tokens of prompts in one call


def write_gguf(model: Any, path: Path) -> None:
    """The weights in float32 without a vocabulary: prompts are ids."""
    config, kind = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], config.num_hidden_layers)
    for name, tensor in model.named_parameters():  # a tied output layer is there once
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.detach().float().cpu().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    """The model loaded once; a context (the cache) for the workload that ran last."""

    def __init__(self, model: Any) -> None:
        self._vocab = model.config.vocab_size
        self._quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept, or it would be collected
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(model, path)
            params = llama_cpp.llama_model_default_params()
            params.n_gpu_layers = 999 if model.device.type == "cuda" else 0
            params.use_mmap = False  # the file goes with its folder
            self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise RuntimeError("llama.cpp does not load this model")
        self._context: Any = None
        self._shape = (0, 0)

    def release(self) -> None:
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context, self._shape = None, (0, 0)

    def run(self, load: Workload, greedy: bool) -> Rows:
        """As many sequences at a time as llama.cpp takes."""
        wanted = load.rows
        at_once = llama_cpp.llama_max_parallel_sequences() // load.samples * load.samples
        return [
            tokens
            for start in range(0, len(wanted), at_once)
            for tokens in self._together(wanted[start : start + at_once], load.samples, greedy)
        ]

    def _together(self, wanted: list[tuple[list[int], int]], samples: int, greedy: bool) -> Rows:
        """Longest first, so that the sequences that still run are always 0, 1, 2, ..., which llama.cpp decodes best."""
        order = sorted(range(len(wanted)), key=lambda index: -wanted[index][1])
        prompts, lengths = [wanted[i][0] for i in order], np.array([wanted[i][1] for i in order])
        self._open(len(wanted), max(len(prompt) + length for prompt, length in wanted))
        self._prefill(prompts, samples)
        batch = llama_cpp.llama_batch_init(len(wanted), 0, 1)
        for row in range(len(wanted)):
            batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, row, 1
        tokens = np.ctypeslib.as_array(batch.token, (len(wanted),))
        places = np.ctypeslib.as_array(batch.pos, (len(wanted),))
        tokens[:], places[:] = [prompt[-1] for prompt in prompts], [len(prompt) - 1 for prompt in prompts]
        drawn = []
        for step in range(int(lengths.max())):
            batch.n_tokens = int((lengths > step).sum())
            tokens[: batch.n_tokens] = self._draw(batch, greedy)
            places += 1
            drawn.append(tokens.copy())
        llama_cpp.llama_batch_free(batch)
        columns = np.stack(drawn, 1)
        out: Rows = [[] for _ in wanted]
        for row, index in enumerate(order):
            out[index] = columns[row, : lengths[row]].tolist()
        return out

    def _open(self, rows: int, columns: int) -> None:
        """An empty context of `rows` sequences of `columns` tokens; the last one if it is that large."""
        shape = (rows, -(-columns // 256) * 256)
        if shape != self._shape:
            self.release()
            params = llama_cpp.llama_context_default_params()
            params.n_ctx, params.n_seq_max = shape[0] * shape[1], rows
            params.n_batch = params.n_ubatch = max(PIECE, rows)
            params.n_threads = params.n_threads_batch = torch.get_num_threads()
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
            params.kv_unified = False  # else each sequence looks, masked, at the columns of all
            self._context = llama_cpp.llama_init_from_model(self._model, params)
            if not self._context:
                raise RuntimeError("llama.cpp makes no context for this workload")
            self._shape = shape
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)

    def _prefill(self, prompts: list[list[int]], samples: int) -> None:
        """The prompts without their last tokens, each once; the other samples get copies."""
        batch = llama_cpp.llama_batch_init(PIECE, 0, 1)
        leaders = range(0, len(prompts), samples)
        entries = [(leader, place) for leader in leaders for place in range(len(prompts[leader]) - 1)]
        for start in range(0, len(entries), PIECE):
            part = entries[start : start + PIECE]
            for at, (row, place) in enumerate(part):
                batch.token[at], batch.pos[at], batch.logits[at] = prompts[row][place], place, 0
                batch.n_seq_id[at], batch.seq_id[at][0] = 1, row
            batch.n_tokens = len(part)
            self._decode(batch)
        llama_cpp.llama_batch_free(batch)
        memory = llama_cpp.llama_get_memory(self._context)
        for row in range(len(prompts)):
            if row % samples:
                llama_cpp.llama_memory_seq_cp(memory, row - row % samples, row, -1, -1)

    def _draw(self, batch: Any, greedy: bool) -> np.ndarray:
        self._decode(batch)
        shape = (batch.n_tokens, self._vocab)
        logits = torch.from_numpy(np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), shape))
        if greedy:
            return logits.argmax(-1).numpy()
        return torch.multinomial(logits.softmax(-1), 1)[:, 0].numpy()

    def _decode(self, batch: Any) -> None:
        status = llama_cpp.llama_decode(self._context, batch)
        if status:
            raise RuntimeError(f"llama_decode: {status}")


def by_llama(model: Any) -> Way:
    peer = LlamaCpp(model)
    return Way("llama.cpp", peer.run, peer.release)

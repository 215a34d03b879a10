"""Loads a policy by name: an embedded model, a folder, or a hub id."""

from __future__ import annotations

import difflib
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import torch
import transformers
from safetensors import SafetensorError

from thinksmith import models
from thinksmith.errors import UserError, one_line
from thinksmith.policy.policy import Policy
from thinksmith.policy.quantize import KINDS, check_quantize, give_back, quantize_weights

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OTHER_HEADS = ("ForMaskedLM", "Classification", "QuestionAnswering", "ForPreTraining")
TRIAL_ROWS = 16  # of a decode-like product,
TRIAL_WEIGHTS = 1 << 24  # with at most so many weights: 64 MB in float32,
TRIAL_SHAPES = 3  # for so many of a model's largest shapes,
TRIAL_REPEATS = 5  # and as often, in turns


def load_policy(name: str, device: str | None = None, dtype: str | None = None, quantize: str | None = None) -> Policy:
    """The model `name` in memory, in evaluation mode.

    `name`: `tiny` or `tiny-base`, a folder, or a hub id (`owner/name`), which is downloaded if it is not in the local
    cache. A name may say how the weights are held: `tiny:int8`, `owner/name:bfloat16:int4`; that is short for
    `quantize` and `dtype`. `device`: as torch names it; by default the GPU if there is one.

    `dtype`: `float32`, `bfloat16` or `float16`; by default bfloat16 on a GPU and float32 on a CPU. `auto` is bfloat16
    on a GPU, and on a CPU float32 or bfloat16, whichever multiplies 16 rows by weights of the model's largest shapes
    faster here: a measurement of some milliseconds, so on a busy machine it may fall either way.

    `quantize`: `int8` or `int4` holds the weights of the decoder's linear layers in that, by torchao (the extra
    `quant`); they can be sampled and scored but not trained, except through an adapter.

    The folder of an adapter (peft's format) is its model, as its config names it, with the adapter on; by the
    adapter's own tokenizer, where it has one.

    Raises UserError for whatever cannot be loaded.
    """
    place = _device(device)
    plain, said = taken_apart(name)
    if _is_adapter(Path(plain)):
        return _adapted(name, Path(plain), device, said.get("dtype", dtype), said.get("quantize", quantize))
    for kind, given in (("dtype", dtype), ("quantize", quantize)):
        if given and said.get(kind, given) != given:
            raise UserError(f"model {name} says {said[kind]} and {kind}={given!r} another: leave one out")
    dtype, quantize = said.get("dtype", dtype), said.get("quantize", quantize)
    if dtype is not None and dtype not in (*DTYPES, "auto"):
        raise UserError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}, auto")
    source = _source(plain)
    with _readable(name, source), _quiet():
        _check_causal(name, source)
        number = _number(dtype, place, source)
        if quantize is not None:
            check_quantize(quantize, place, number)
        tokenizer = load_tokenizer(Path(source))
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=number, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    _check_complete(name, report)
    model = model.to(place).eval()
    if quantize is not None:
        quantize_weights(model, name, quantize)
        _let_file_go(model)
    return Policy(model, tokenizer, name)


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _adapted(name: str, folder: Path, device: str | None, dtype: str | None, quantize: str | None) -> Policy:
    """The model that an adapter says it is of, with the adapter on."""
    from thinksmith.policy.adapter import load_adapter

    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    if not isinstance(base, str) or not base or _is_adapter(Path(base)):
        raise UserError(f"adapter {name} does not say which model it is of: load that, and put it on by load_adapter")
    policy = load_policy(base, device, dtype, quantize)
    if (folder / "tokenizer.json").is_file():  # that which the adapter was trained with
        policy.tokenizer = load_tokenizer(folder)
    load_adapter(policy, folder)
    policy.name = name  # `base` is that of the model
    return policy


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, or a folder that may not be looked into
        return False


def plain_name(name: str) -> str:
    """A model's name without what it says of how its weights are held. Raises UserError where it says two things."""
    return taken_apart(name)[0]


def taken_apart(name: str) -> tuple[str, dict[str, str]]:
    """A model's name without what it says of its weights, and that. Raises UserError where it says two things."""
    said: dict[str, str] = {}
    while not is_folder(Path(name)):
        plain, _, word = name.rpartition(":")
        kind = "quantize" if word in KINDS else "dtype" if word in (*DTYPES, "auto") else ""
        if not plain or not kind:
            break
        if kind in said:
            raise UserError(f"model {name}:{said[kind]} says both {word} and {said[kind]}: leave one out")
        said[kind], name = word, plain
    return name, said


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer, as its tokenizer.json says.

    Not by AutoTokenizer where that file is there: for some architectures (qwen2 among them) transformers 5 takes the
    vocabulary from it but cuts texts by the architecture's own rules, so other tokenizers give wrong ids.
    """
    made_by: Any = transformers.AutoTokenizer
    if (folder / "tokenizer.json").is_file():
        made_by = transformers.PreTrainedTokenizerFast
    return made_by.from_pretrained(str(folder), local_files_only=True)


def _device(device: str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"device {device!r} is not usable here; use cpu" + _gpu_hint()) from None
    return place


def _number(dtype: str | None, place: torch.device, source: str) -> torch.dtype:
    """The type of the weights."""
    if dtype in DTYPES:
        return DTYPES[dtype]
    if place.type == "cuda":
        return torch.bfloat16
    return _faster_on_cpu(source) if dtype == "auto" and place.type == "cpu" else torch.float32


def _faster_on_cpu(source: str) -> torch.dtype:
    """float32 or bfloat16, by the products of a decoding step with the model's largest linear layers."""
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    linears = (module.weight for module in model.modules() if isinstance(module, torch.nn.Linear))
    shapes = Counter((int(weight.shape[0]), int(weight.shape[1])) for weight in linears)
    largest = sorted(shapes, key=lambda shape: shape[0] * shape[1])[-TRIAL_SHAPES:]
    total = dict.fromkeys((torch.float32, torch.bfloat16), 0.0)
    for shape in largest:
        for number, seconds in _trial(shape, tuple(total)).items():
            total[number] += shapes[shape] * seconds
    return min(total, key=lambda number: total[number])


@torch.inference_mode()
def _trial(shape: tuple[int, int], numbers: tuple[torch.dtype, ...]) -> dict[torch.dtype, float]:
    """Median seconds of one product by type; of a large layer only some of the outputs are computed."""
    columns, width = max(1, min(shape[0], TRIAL_WEIGHTS // shape[1])), shape[1]
    ways = {number: _product(columns, width, number) for number in numbers}
    for way in ways.values():
        way()
    times: dict[torch.dtype, list[float]] = {number: [] for number in numbers}
    for _ in range(TRIAL_REPEATS):
        for number, way in ways.items():
            begin = time.perf_counter()
            way()
            times[number].append(time.perf_counter() - begin)
    return {number: statistics.median(each) for number, each in times.items()}


def _product(columns: int, width: int, number: torch.dtype) -> Callable[[], torch.Tensor]:
    rows_BD, weight_FD = (torch.full((size, width), 0.5, dtype=number) for size in (TRIAL_ROWS, columns))
    return lambda: torch.nn.functional.linear(rows_BD, weight_FD)


def _let_file_go(model: Any) -> None:
    """What was not quantised lies in the mapped file still, and one such weight holds all of the file in memory."""
    for weight in model.parameters():
        if type(weight.data) is torch.Tensor and weight.device.type == "cpu":
            weight.data = weight.data.clone()
    give_back()


def _gpu_hint() -> str:
    return " or cuda" if torch.cuda.is_available() else ""


def _source(name: str) -> str:
    """The local folder that holds the model."""
    if name in models.EMBEDDED:
        folder = models.path(name)
        if not (folder / "config.json").is_file():
            raise UserError(
                f"the embedded model {name} is not in this installation: install the thinksmith wheel again"
            )
        return str(folder)
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(name, folder)
        return str(folder)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        near = difflib.get_close_matches(name, models.EMBEDDED, n=1, cutoff=0.4)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"use {', '.join(models.EMBEDDED)}, a folder, or a hub id owner/name"
        )
        raise UserError(f"no model {name!r}: it is neither embedded nor a folder; {hint}")
    return _from_hub(name)


def _check_folder(name: str, folder: Path) -> None:
    """Say what a folder lacks before transformers goes looking for it elsewhere."""
    if not (folder / "config.json").is_file():
        raise UserError(f"folder {name} holds no config.json: name a folder in Hugging Face format")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"folder {name} holds no tokenizer (tokenizer.json): copy the one the model was trained with")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"folder {name} holds no weights (*.safetensors); convert other formats first")


def _from_hub(name: str) -> str:
    """Find the repository in the local cache, or download it."""
    wanted = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        try:
            return str(huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        except huggingface_hub.errors.LocalEntryNotFoundError:
            _check_online(name)
            return str(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except (huggingface_hub.errors.HfHubHTTPError, huggingface_hub.errors.HFValidationError) as error:
        missing = isinstance(error, huggingface_hub.errors.RepositoryNotFoundError)
        reason = "no such public repository" if missing else one_line(error)
        raise UserError(f"model {name!r} is not a folder here, and the hub says: {reason}") from None
    except OSError as error:
        raise UserError(f"model {name!r} could not be downloaded: {one_line(error)}") from None


def _check_online(name: str) -> None:
    """One short look, because the hub's client retries for half a minute."""
    offline = huggingface_hub.constants.HF_HUB_OFFLINE or os.environ.get("TRANSFORMERS_OFFLINE", "") not in ("", "0")
    if not offline:
        try:
            httpx.head(huggingface_hub.constants.ENDPOINT, timeout=5.0)
            return
        except httpx.HTTPError:
            pass
    where = "downloads are switched off" if offline else f"{huggingface_hub.constants.ENDPOINT} cannot be reached"
    raise UserError(f"model {name!r} is neither a folder nor in the local hub cache, and {where}")


def _check_causal(name: str, source: str) -> None:
    """transformers would load some other models too, and they would give numbers without a meaning."""
    # A folder with code of its own is refused here; else transformers would ask on the terminal whether to run it.
    config = transformers.AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    heads = getattr(config, "architectures", None) or [type(config).__name__]
    # Encoders have the flag, and decoders do not.
    encoder = getattr(config, "is_decoder", True) is False
    known = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if encoder or not known or any(word in head for head in heads for word in OTHER_HEADS):
        raise UserError(f"model {name} is a {heads[0]} ({config.model_type}), which is no causal language model")


@contextmanager
def _readable(name: str, source: str) -> Iterator[None]:
    """Turn the ways in which a model folder can be broken into one line."""
    try:
        yield
    except UserError:
        raise
    except SafetensorError as error:
        raise UserError(
            f"model {name}: {_broken_shard(source)} is corrupt ({one_line(error)}); copy it again"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"model {name}: {_not_utf8(source)} is not UTF-8 text; copy it again") from None
    except json.JSONDecodeError as error:
        raise UserError(f"model {name}: a JSON file of {source} is malformed ({one_line(error)})") from None
    except Exception as error:  # a folder can be broken in more ways than its readers foresee
        broken = _not_utf8(source, default="")
        reason = f"{broken} is not UTF-8 text" if broken else one_line(error)
        raise UserError(f"model {name} cannot be loaded from {source}: {reason}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading has its own way of reporting; transformers' bars and tables would stand in it."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_complete(name: str, report: dict[str, Any]) -> None:
    """Weights that are missing would be random numbers, silently."""
    for kind in ("missing_keys", "mismatched_keys"):
        if keys := sorted(map(str, report.get(kind) or ())):
            raise UserError(f"model {name}: {len(keys)} weights are {kind[:-5]}, the first is {keys[0]}")


def _broken_shard(source: str) -> str:
    from safetensors import safe_open

    for shard in sorted(Path(source).glob("*.safetensors")):
        try:
            with safe_open(str(shard), framework="pt") as handle:
                handle.keys()
        except (SafetensorError, OSError):
            return shard.name
    return "a weights file"


def _not_utf8(source: str, default: str = "a text file") -> str:
    for file in sorted(Path(source).glob("*.json")) + sorted(Path(source).glob("*.jinja")):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return file.name
        except OSError:
            continue
    return default

"""Reads how many bytes a folder's weights take, from the headers of its safetensors files.

The format: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from thinksmith.errors import UserError, one_line

MOST_HEADER = 100_000_000  # bytes, as the safetensors library allows
MOST_FILES = 10_000


def stored_bytes(folder: Path) -> int:
    """Bytes of all tensors in the folder's *.safetensors files; 0 if there are none. Raises UserError for a broken one.

    Where an index names the files, only those count: some folders hold the weights a second time in one file. A file
    that the index names and that is not here makes it 0: the rest says nothing of the whole.
    """
    index = folder / "model.safetensors.index.json"
    try:
        if not index.is_file():
            files = sorted(folder.glob("*.safetensors"))[:MOST_FILES]
            return sum(tensor_bytes(path) for path in files)
        if index.stat().st_size > MOST_HEADER:
            raise ValueError("it is too large")
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({Path(str(place)).name for place in places})[:MOST_FILES]
        if not all((folder / name).is_file() for name in names):
            return 0
        return sum(tensor_bytes(folder / name) for name in names)
    except OSError as error:
        raise UserError(f"the weights in {folder} cannot be read: {one_line(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{index} is malformed ({one_line(error)}); copy it again") from None


def tensor_bytes(path: Path) -> int:
    """Bytes of the tensors of one file: by its header, which must agree with its size. Raises UserError if it is
    broken."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise UserError(f"{path} is no safetensors file, or not all of it: copy it again")
        try:
            header = json.loads(file.read(length))
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            last = max(ends, default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise UserError(f"{path} has a malformed header: copy it again") from None
    # The format allows no gaps, so the end of the last tensor is their sum.
    if last != size - 8 - length:
        raise UserError(f"{path} has another size than its header says: copy it again")
    return int(last)

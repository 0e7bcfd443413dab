"""Writing a ``.prior`` that REINVENT 4 opens: a zipped torch file, its pickle written instruction by instruction.

Its tokenizer is an object of a class that is not here, which pickle itself would refuse to write.
"""

from __future__ import annotations

import pickle
import struct
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chemmara.errors import RunError
from chemmara.places import replacing
from chemmara.policies.reinvent import MODEL, ReinventPrior

ALIGNMENT = 64  # of each storage in the file, as torch writes it
PADDING_FIELD = 0x4246
VERSION = 1
TABLE, TENSOR = "collections\nOrderedDict\n", "torch._utils\n_rebuild_tensor_v2\n"
STORAGE, TOKENIZER = "torch\nFloatStorage\n", f"{MODEL}.vocabulary\nSMILESTokenizer\n"


class Tokenizer:
    """Stands for REINVENT's SMILESTokenizer."""


def write_reinvent(prior: ReinventPrior, path: str | Path, *, created: float = 0.0, source: str = "unknown") -> Path:
    """Write ``prior`` to ``path``, through a temporary file. Raises :class:`RunError` if the disk does not take it."""
    path = Path(path)
    weights = {name: np.ascontiguousarray(value, "<f4") for name, value in prior.weights.items()}
    program = b"".join(_pickled(_save_dict(prior, weights, created, source)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "prior/data.pkl", program)
            _add(archive, "prior/byteorder", b"little")
            for number, value in enumerate(weights.values()):
                _add(archive, f"prior/data/{number}", value.tobytes())
            _add(archive, "prior/version", b"3\n")
    except OSError as error:
        raise RunError(f"'{path}' could not be written: {error.strerror or error}") from None
    return path


def _save_dict(
    prior: ReinventPrior, weights: dict[str, NDArray[np.float32]], created: float, source: str
) -> dict[str, Any]:
    """The table that REINVENT's ``Model.create_from_dict`` takes, in its order of keys."""
    return {
        "max_sequence_length": prior.max_sequence_length,
        "metadata": {
            "hash_id": None, "hash_id_format": "", "model_id": uuid.uuid4().hex, "origina_data_source": source,
            "creation_date": created, "date_format": "UNIX epoch", "model_id_format": "uuid.uuid4",
            "updates": [], "comments": list(prior.metadata.get("comments", [])),
        },
        "model_type": "Reinvent",
        "network": weights,
        "network_params": {
            "dropout": prior.dropout, "layer_size": prior.hidden_size, "num_layers": prior.layers,
            "cell_type": prior.cell, "embedding_layer_size": prior.embedding_size, "layer_normalization": False,
        },
        "tokenizer": Tokenizer(),
        "version": VERSION,
        "vocabulary": {
            "tokens": {token: number for number, token in enumerate(prior.tokens)},
            "pad_token": 0, "bos_token": 1, "eos_token": 2, "unk_token": None,
        },
    }  # fmt: skip


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    assert archive.fp is not None
    member = zipfile.ZipInfo(name)
    start = archive.fp.tell() + 30 + len(name) + 4
    room = -start % ALIGNMENT
    member.extra = struct.pack("<HH", PADDING_FIELD, room) + b"Z" * room
    archive.writestr(member, data)


def _pickled(content: dict[str, Any]) -> Iterator[bytes]:
    """The pickle of tables, lists, text, numbers, arrays (as tensors) and the tokenizer, protocol 2."""
    yield pickle.PROTO + b"\x02"
    storages = iter(range(10**6))
    yield from _value(content, storages)
    yield pickle.STOP


def _value(value: Any, storages: Iterator[int]) -> Iterator[bytes]:
    if value is None or isinstance(value, bool):
        yield {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}[value]
    elif isinstance(value, int):
        yield pickle.BININT + struct.pack("<i", value)
    elif isinstance(value, float):
        yield pickle.BINFLOAT + struct.pack(">d", value)
    elif isinstance(value, str):
        data = value.encode()
        yield pickle.BINUNICODE + struct.pack("<I", len(data)) + data
    elif isinstance(value, list):
        yield pickle.EMPTY_LIST + pickle.MARK
        for item in value:
            yield from _value(item, storages)
        yield pickle.APPENDS
    elif isinstance(value, dict):
        yield from _table(value, storages)
    elif isinstance(value, np.ndarray):
        yield from _tensor(value, next(storages))
    else:
        yield pickle.GLOBAL + TOKENIZER.encode() + pickle.EMPTY_TUPLE + pickle.NEWOBJ


def _table(value: dict[str, Any], storages: Iterator[int]) -> Iterator[bytes]:
    ordered = any(isinstance(item, np.ndarray) for item in value.values())  # a state dict
    empty = pickle.GLOBAL + TABLE.encode() + pickle.EMPTY_TUPLE + pickle.REDUCE
    yield (empty if ordered else pickle.EMPTY_DICT) + pickle.MARK
    for key, item in value.items():
        yield from _value(key, storages)
        yield from _value(item, storages)
    yield pickle.SETITEMS


def _tensor(value: NDArray[np.float32], number: int) -> Iterator[bytes]:
    nothing: Iterator[int] = iter(())
    strides = [step // value.itemsize for step in value.strides]
    yield pickle.GLOBAL + TENSOR.encode() + pickle.MARK + pickle.MARK
    yield from _value("storage", nothing)
    yield pickle.GLOBAL + STORAGE.encode()
    for item in (str(number), "cpu", value.size):
        yield from _value(item, nothing)
    yield pickle.TUPLE + pickle.BINPERSID
    yield from _value(0, nothing)
    for sizes in (list(value.shape), strides):
        yield pickle.MARK
        for size in sizes:
            yield from _value(size, nothing)
        yield pickle.TUPLE
    yield pickle.NEWFALSE + pickle.GLOBAL + TABLE.encode() + pickle.EMPTY_TUPLE + pickle.REDUCE
    yield pickle.TUPLE + pickle.REDUCE

"""Reading a pickled torch file from elsewhere without running any code of it, and without torch.

Such a file is a zip archive: ``data.pkl``, a pickle of tables and tensors, and the tensors' numbers as raw bytes. A
pickle is a program; this reader lets it build tables, lists, text, numbers, tensors and a few named classes as empty
husks, and refuses whatever else it asks for. Nothing that the file names is ever imported or called.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from chemmara.errors import UserError

MAX_PICKLE = 16 * 2**20
MAX_ENTRIES = 10_000
MAX_DIMENSIONS = 8
_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1 FLOAT BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND
    APPENDS LIST DICT EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL
    STACK_GLOBAL REDUCE NEWOBJ BUILD BINPERSID
"""
OPCODES = frozenset(_OPCODES.split())
STORAGES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
}


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that is not on the list."""


class Husk:
    """An object of a class that is not here: its state, and nothing that it could do."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Table(dict[Any, Any]):
    """Stands for an OrderedDict; what else is set on it (torch's ``_metadata``) is dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...


@dataclass(frozen=True)
class Storage:
    """Raw numbers in the archive."""

    kind: str
    key: str
    count: int


class Named:
    """A storage type or a function that a pickle may mention. It has no state to be changed by BUILD."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Any = None) -> None:
        self.name, self.call = name, call

    def __call__(self, *arguments: Any) -> Any:
        if self.call is None:
            raise Refused(f"a call of '{self.name}'")
        return self.call(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise Refused(f"a change of '{self.name}'")


def read_foreign(path: str | Path, husks: Iterable[tuple[str, str]]) -> Any:
    """The content of a zipped torch file: tables, lists, text, numbers, float32 arrays, and :class:`Husk` objects.

    ``husks`` are the (module, class) pairs that may appear as such. Raises :class:`UserError` that names what was
    refused, for anything else and for a damaged file. Nothing in the file can run, and no more memory is taken than the
    file is long (twice that for numbers of less than four bytes).
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, path.stat().st_size)
            program = _program(archive, entries)
            return _Reader(archive, entries, program, frozenset(husks)).load()
    except Refused as error:
        raise UserError(f"'{path}' is refused: it holds {error}") from None
    except FileNotFoundError:
        raise UserError(f"file '{path}' does not exist") from None
    except zipfile.BadZipFile:
        fault = "it is damaged, or older than torch 1.6 (REINVENT 4 writes it anew when it saves it)"
        raise UserError(f"'{path}' is no zipped torch file: {fault}") from None
    except OSError as error:
        raise UserError(f"file '{path}' cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(f"'{path}' cannot be read: it is damaged ({reason})") from None


def _entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by name below its one folder; stored plainly, and together no longer than the file."""
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        raise Refused(f"{len(members):,} members")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise Refused(f"a compressed or encrypted member, '{member.filename[:80]}'; torch stores plain ones")
    if sum(member.file_size for member in members) > size:
        raise Refused("members that are longer than the whole file")
    roots = {member.filename.partition("/")[0] for member in members}
    if len(roots) != 1:
        raise Refused("more than one folder, or none")
    return {member.filename.partition("/")[2]: member for member in members}


def _program(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> bytes:
    """The pickle, with every instruction on the list. The scan runs nothing."""
    if "data.pkl" not in entries:
        raise Refused("no data.pkl: it is no file of torch.save")
    if entries["data.pkl"].file_size > MAX_PICKLE:
        raise Refused(f"a pickle of more than {MAX_PICKLE // 2**20} MB")
    program = archive.read(entries["data.pkl"])
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name not in OPCODES:
            raise Refused(f"the pickle instruction {opcode.name}")
        if opcode.name in ("LONG_BINPUT", "LONG_BINGET") and int(argument or 0) > len(program):
            raise Refused("a memo number beyond its length")  # the memo is a table as long as its largest number
    return program


class _Reader(pickle.Unpickler):
    def __init__(
        self,
        archive: zipfile.ZipFile,
        entries: dict[str, zipfile.ZipInfo],
        program: bytes,
        husks: frozenset[tuple[str, str]],
    ) -> None:
        super().__init__(io.BytesIO(program))
        self.archive, self.entries = archive, entries
        order = entries.get("byteorder")
        self.order = ">" if order and order.file_size < 16 and archive.read(order).strip() == b"big" else "<"
        self.storages: dict[Storage, NDArray[np.float32]] = {}
        self.known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): Table,
            ("torch._utils", "_rebuild_tensor_v2"): Named("torch._utils._rebuild_tensor_v2", self.tensor),
            **{("torch", name): Named(name) for name in STORAGES},
            **{pair: type("Husk", (Husk,), {"origin": ".".join(pair)}) for pair in husks},
        }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.known[module, name]
        except KeyError:
            raise Refused(f"'{module}.{name}'"[:120] + ", which no such file needs") from None

    def persistent_load(self, pid: Any) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], Named)):
            raise Refused("a reference that is no storage")
        _, kind, key, _, count = pid
        if kind.name not in STORAGES or not isinstance(key, str) or not _whole(count):
            raise Refused("a reference that is no storage of numbers")
        return Storage(kind.name, key, count)

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> NDArray[np.float32]:
        """The array that a tensor stands for, a copy; places and sizes are checked against the storage."""
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise Refused("a tensor built from something else than a storage")
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or not all(map(_whole, numbers)):
            raise Refused(f"a tensor of shape {str(shape)[:60]}")
        values = self._values(storage)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
        if math.prod(shape) > len(values) or (0 not in shape and last >= len(values)):
            raise Refused(f"a tensor of shape {str(shape)[:60]} in a storage of {len(values):,} numbers")
        if 0 in shape:
            return np.zeros(shape, np.float32)
        steps = [step * values.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, steps).copy()

    def _values(self, storage: Storage) -> NDArray[np.float32]:
        if storage in self.storages:
            return self.storages[storage]
        member = self.entries.get(f"data/{storage.key}")
        kind = STORAGES[storage.kind]
        width = 2 if kind == "bf16" else int(kind[1:])
        if member is None or member.file_size != storage.count * width:
            raise Refused(f"a storage '{storage.key[:40]}' that is missing or not {storage.count:,} numbers long")
        raw = self.archive.read(member)
        if kind == "bf16":  # the upper half of a float32
            wide = np.frombuffer(raw, f"{self.order}u2").astype(np.uint32) << 16
            values = wide.view(np.float32)
        else:
            values = np.frombuffer(raw, f"{self.order}{kind}").astype(np.float32)
        self.storages[storage] = values
        return values


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48

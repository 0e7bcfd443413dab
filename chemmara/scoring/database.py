"""Opening the ledger's SQLite file: one writer, readers at any time, and one clear line for whatever goes wrong."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chemmara.errors import ChemmaraError, RunError, UserError
from chemmara.lazy import lazy

if TYPE_CHECKING:
    import sqlite3
else:
    sqlite3 = lazy("sqlite3")

_SERVED = (
    "nfs",
    "nfs3",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "afs",
    "9p",
    "davfs",
    "drvfs",
    "sshfs",
    "s3fs",
    "rclone",
)
_PARALLEL = ("lustre", "gpfs", "beegfs", "ceph", "ceph-fuse", "glusterfs", "pvfs2", "orangefs", "panfs")
# "fuse.sshfs" and its like are looked up without their prefix.
NETWORK_FILE_SYSTEMS = frozenset((*_SERVED, *_PARALLEL))
_BUSY_S = 60.0
_LOCK_S = 1.0  # a writer that was just killed may still be letting go of its lock


def file_system_type(path: Path, mounts: str | None = None) -> str:
    """The type of the file system that ``path`` lies on ("ext4", "nfs4"), '' where that cannot be told.

    ``mounts`` is the text of /proc/mounts (read from there if None): device, mount point, type, options.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(errors="replace")
        except OSError:
            return ""
    target = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # The kernel writes blanks in a mount point as octal escapes.
        point = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        if target.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


@contextmanager
def explained(path: Path, error_type: Callable[[str], ChemmaraError] = RunError) -> Iterator[None]:
    """Turn SQLite's errors inside the block into one line that names the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error, error_type) from None


def _explain(path: Path, error: sqlite3.Error, error_type: Callable[[str], ChemmaraError]) -> ChemmaraError:
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith("SQLITE_FULL"):
        return RunError(f"ledger '{path}' cannot be written: the disk is full; free some space, then resume")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return error_type(f"ledger '{path}' is damaged or not a ledger ({error})")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return error_type(f"ledger '{path}' cannot be opened or is not writable ({error})")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return RunError(f"ledger '{path}' is in use by another process")
    return RunError(f"ledger '{path}' cannot be read or written ({error}); what was saved before is kept")


def acquire_lock(path: Path) -> sqlite3.Connection:
    """Become the one writer of ``path``; closing the connection gives it up, and so does any end of the process.

    The lock is SQLite's own, on an empty side file: it works on every platform, is not inherited by a child process,
    and the readers of the ledger never meet it. Raises :class:`RunError` if another process has it.
    """
    lock = _connect(f"{path}.lock", _LOCK_S)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except BaseException:
        lock.close()
        raise
    return lock


def connect_writer(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return."""
    kind = file_system_type(path.parent)
    remote = kind.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS
    wanted = "DELETE" if remote else "WAL"
    connection = _connect(str(path), _BUSY_S)
    try:
        got = str(connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()[0])
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: through the drive's own cache as well
    except BaseException:
        connection.close()
        raise
    if remote:
        warnings.warn(
            f"ledger '{path}' lies on a network file system ({kind}): it uses SQLite's rollback journal, which is "
            "slower, and only as safe as that file system's locks; a local disk is better",
            stacklevel=4,
        )
    elif got.upper() != wanted:
        warnings.warn(f"ledger '{path}': write-ahead log not available here, journal mode is {got}", stacklevel=4)
    return connection


def connect_reader(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """A connection that never writes, and a temporary folder to delete after closing it, if one was needed."""
    if not path.is_file():
        raise UserError(f"ledger '{path}' does not exist")
    # Not mode=ro, which would leave the log and index files of a read behind; SQLite itself falls back to that mode.
    connection = _try_reader(f"{path.resolve().as_uri()}?mode=rw")
    if connection is not None:
        return connection, None
    side_files = [Path(f"{path}{end}") for end in ("-wal", "-journal")]
    left_over = [side for side in side_files if side.exists() and side.stat().st_size > 0]
    if not left_over:
        # A finished ledger in a directory that cannot be written to: nobody can be changing it.
        return _connect(f"{path.resolve().as_uri()}?immutable=1", _BUSY_S, uri=True), None
    # A killed writer left commits that only a writable place lets SQLite recover.
    folder = Path(tempfile.mkdtemp(prefix="chemmara-ledger-"))
    for file in (path, *left_over):
        shutil.copyfile(file, folder / file.name)
    return _connect(str(folder / path.name), _BUSY_S), folder


def _try_reader(uri: str) -> sqlite3.Connection | None:
    connection = _connect(uri, _BUSY_S, uri=True)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            return None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(target: str, timeout_s: float, uri: bool = False) -> sqlite3.Connection:
    # isolation_level=None: transactions begin and end where the code says, not where the driver guesses.
    return sqlite3.connect(target, timeout=timeout_s, isolation_level=None, uri=uri)


def encode(text: str) -> str | bytes:
    """Text as SQLite can hold it: a lone surrogate, which UTF-8 refuses, goes in as bytes.

    >>> encode("c1ccccc1"), encode(chr(0xD800))
    ('c1ccccc1', b'\\xed\\xa0\\x80')
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def decode(value: str | bytes) -> str:
    """The inverse of :func:`encode`."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")

"""Places for results: whether there is one, asked before the work, and files put there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from chemmara.errors import RunError, UserError


def check_directory(out: str | Path) -> None:
    """Raise :class:`UserError` unless ``out`` is a directory to write in, or can be made. Nothing is written."""
    out = Path(out)
    nearest = next(folder for folder in (out, *out.parents) if folder.exists())
    if not nearest.is_dir():
        raise UserError(f"'{nearest}' is a file; choose a directory for the results")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"directory '{nearest}' is not writable")


def make_directory(out: str | Path) -> None:
    """Make a directory, and those above it. Raises :class:`UserError`."""
    check_directory(out)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"directory '{out}' cannot be made: {error.strerror}") from None


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path beside ``path`` for the block to write to. When the block has ended well, what is there is on the disk and
    takes ``path``'s place; until then, and for ever if it raises, what lay at ``path`` stays as it was.

    What a killed writer leaves behind the next one writes over, and takes away if it fails; with ``shared``, where
    several processes may write ``path`` at once, each has a name of its own. Raises what the block raises, and OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial" if shared else f".{path.name}.partial")
    try:
        yield temporary
        with open(temporary, "r+b") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


@contextmanager
def replacing_text(path: Path) -> Iterator[IO[str]]:
    """A text file that a user has named, by :func:`replacing`.

    Raises :class:`UserError` where there can be no such file, :class:`RunError` where the disk refuses.
    """
    if path.is_dir():
        raise UserError(f"cannot write '{path}': it is a directory")
    try:
        with (
            replacing(path, shared=True) as temporary,
            open(temporary, "w", encoding="utf-8", errors="surrogatepass", newline="") as stream,
        ):
            yield stream
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError))
        raise (UserError if missing else RunError)(f"cannot write '{path}': {error.strerror or error}") from None


def write_whole(path: Path, text: str) -> None:
    """Write a text file by :func:`replacing`. Raises :class:`RunError` if the disk refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise RunError(f"'{path}' could not be written: {error.strerror}") from None


def _sync_directory(folder: Path) -> None:
    """Make a rename in ``folder`` durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a directory; its rename is durable enough
        return
    try:
        os.fsync(descriptor)
    except OSError:  # nor can some network file systems
        pass
    finally:
        os.close(descriptor)

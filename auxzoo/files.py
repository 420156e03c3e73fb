"""Writing files so that nothing half-written is ever seen, and reading them so that damage is noticed."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path

from auxzoo.errors import UserError


@contextlib.contextmanager
def written_aside(path):
    """Yields a temporary path beside `path`, and renames it to `path` once the block ended well.

    The block may write a file or make a folder there. If it raises, whatever it wrote is removed and
    `path` is as it was. The temporary name keeps the suffix of `path`, because libraries choose a format by it.

    Args:
        path: `str` or `Path`, the file or folder that shall appear whole or not at all. A file is
            replaced; a folder must not exist yet.

    Yields:
        `Path` of the temporary name, in the same folder (so that the rename is atomic).

    Raises:
        OSError: that names `path`, where the disk is full.

    Example:
        >>> with written_aside("result.json") as temporary:
        ...     _ = temporary.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = "".join(path.suffixes[-2:])  # ".weights.h5" is one suffix to Keras
    temporary = path.with_name(f".{path.name.removesuffix(suffixes)}.{uuid.uuid4().hex[:8]}{suffixes}")
    try:
        with naming_where_full(path):
            yield temporary
            _write_through(temporary)
            os.replace(temporary, path)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def _write_through(path):
    """Lets a file reach the disk: else a power cut may leave its new name with nothing in it, the old content gone."""
    if path.is_file():
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def naming_where_full(path):
    """Lets the error of a full disk name `path`: that of a write names no file, that of a copy its source."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from None  # HDF5's own words are many


@contextlib.contextmanager
def temporary_folder():
    """Yields the `Path` of a folder that is removed afterwards.

    Raises:
        OSError: that names it, where the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="auxzoo-") as folder, naming_where_full(folder):
        yield Path(folder)


def move_together(moves):
    """Moves files to their places, all of them or none.

    Args:
        moves: `dict` of source `Path` to target `Path`; a target that exists is replaced.

    Raises:
        UserError: if a target cannot be written; then every target is as it was.
    """
    for target in moves.values():
        if target.is_dir():  # the one thing that a rename, once all are written, would stumble over
            raise UserError(f"`{target}` cannot be written: it is a folder")
    try:
        with contextlib.ExitStack() as stack:  # renames when all are written
            for source, target in moves.items():
                temporary = stack.enter_context(written_aside(target))
                shutil.copyfile(source, temporary)
                _write_through(temporary)  # a full disk may tell of itself here first
    except OSError as error:
        raise UserError(f"`{target}` cannot be written: {error.strerror or error}") from None


def numbered_folder(parent, name):
    """Returns the path of the next folder `parent/name-NNN` that does not exist, beginning with 001."""
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    matches = [pattern.fullmatch(path.name) for path in Path(parent).glob(f"{glob.escape(name)}-*")]
    number = 1 + max((int(match[1]) for match in matches if match), default=0)
    return Path(parent) / f"{name}-{number:03d}"


def sha256(path):
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path, value):
    """Writes `value` as indented JSON, aside and renamed."""
    with written_aside(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path):
    """Returns the content of a JSON file.

    Raises:
        UserError: if the file is missing, unreadable or not JSON; the message names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"`{path}` does not exist.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"`{path}` cannot be read as JSON: {error}") from None

"""The journal of slabs in files: one of fixed size for each worker, mapped into its memory.

Owns the files and who may have them. Does not own what a slab's text says (`lease_record`) nor what becomes of it
(`leased`). A file is its worker's while that holds its lock, which the system lets go when the process ends, however it
ends; what it wrote until then is there. It is not forced to disk: a machine that stops loses it.

A file is a head, then for each slab the number of requests left, then its mark (length and checksum of its text, 0 for
no slab), then its text. Text comes before mark: an entry that was cut off is not there.

Concurrency: for one event loop; any number of processes share a directory, and an orphaned file has one of them at a
time. Failure: OSError where the directory cannot be used. What is not readable is put aside, one file at most, and
logged.
"""

import fcntl
import mmap
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import structlog

from tallygate.limits.amendment import Amendment
from tallygate.limits.journal import Entry, Journal, NoJournal, Orphan
from tallygate.limits.lease_record import read_slab, slab_text
from tallygate.limits.leases import SLAB_KNOWN_S

_log = structlog.get_logger("tallygate.limits")

SLABS, TEXT_BYTES = 2_048, 2_048
_HEAD = b"tallygate slabs 1\n".ljust(64, b"\0")
_MARKS_AT = len(_HEAD) + 8 * SLABS
_TEXTS_AT = _MARKS_AT + 8 * SLABS
FILE_BYTES = _TEXTS_AT + SLABS * TEXT_BYTES
_NAMES, _ASIDE = "slabs-", "not-readable"
_READING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TRIES = 8


def open_journal(redis_url: str) -> Journal:
    """Return the journal of slabs taken from this Redis, in the user's own directory for what does not outlive much.

    Where there is no such directory there is no journal, and the log says so.
    """
    at = urlsplit(redis_url)
    server = f"{at.netloc.rpartition('@')[2]}{at.path}?{at.query}"
    try:
        directory = Path(tempfile.gettempdir()) / f"tallygate-{os.geteuid()}"
        return FileJournal(directory, f"{_NAMES}{sha256(server.encode()).hexdigest()[:16]}-")
    except OSError as error:
        problem = f"what a worker holds is lost when it is killed: {error}"
        _log.warning("there is no directory for a journal of leases", problem=problem)
        return NoJournal()


class FileJournal:
    """A worker's file in `directory`, made when first needed; all that share counters share `prefix`."""

    is_lasting = True

    def __init__(self, directory: Path, prefix: str = _NAMES) -> None:
        """Make the directory; raise OSError when it is not ours alone, or cannot hold a file."""
        self._prefix = prefix
        self._directory = _own_directory(directory)
        try:
            self._file = self._begin()
        except BaseException:
            os.close(self._directory)
            raise
        self._adopted: list[_File] = []

    def enter(self, terms: Amendment, size: int) -> Entry | None:
        """Enter a slab of so many requests; None where there is no room, or its text is too long."""
        return self._file.enter(slab_text(terms, size), size)

    def orphans(self) -> list[Orphan]:
        """Return the slabs of files whose workers are no more; none until those of the last time are settled.

        Files of other counters are removed once nobody can know their slabs any more.
        """
        self._adopted = [file for file in self._adopted if not file.is_closed]
        if self._adopted:
            return []
        found: list[Orphan] = []
        for name in os.listdir(self._directory):  # noqa: PTH208 - the directory that was checked, whatever its name leads to now
            if name.startswith(self._prefix) and name != self._file.name:
                found += self._adopt(name)
            elif name.startswith(_NAMES) and name != self._file.name:
                self._forget(name)
        return found

    def close(self) -> None:
        """Let go of every file; those without slabs are removed."""
        for file in (self._file, *self._adopted):
            file.close()
        os.close(self._directory)

    def _begin(self) -> "_File":
        for _ in range(_TRIES):
            name = f"{self._prefix}{secrets.token_hex(8)}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, 0o600, dir_fd=self._directory)
            # Whoever looks for orphans may have been quicker, and removed the empty file.
            if _is_locked(fd) and os.fstat(fd).st_nlink:
                try:
                    # All of it now: a mapped file that finds no room later would end the process.
                    os.posix_fallocate(fd, 0, FILE_BYTES)
                    return _File(self._directory, name, fd)
                except OSError:
                    os.unlink(name, dir_fd=self._directory)
                    os.close(fd)
                    raise
            os.close(fd)
        raise FileExistsError("other processes take every new file of the journal")

    def _forget(self, name: str) -> None:
        """Remove a file that has been left for longer than any store knows a slab."""
        with suppress(OSError):
            fd = os.open(name, _READING, dir_fd=self._directory)
            if time.time() - os.fstat(fd).st_mtime > SLAB_KNOWN_S and _is_locked(fd):
                os.unlink(name, dir_fd=self._directory)
            os.close(fd)

    def _adopt(self, name: str) -> Iterator[Orphan]:
        """Yield what is in a file, if its worker is no more."""
        try:
            fd = os.open(name, _READING, dir_fd=self._directory)
        except OSError:
            return
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or not _is_locked(fd) or not os.fstat(fd).st_nlink:
            os.close(fd)
        elif status.st_size != FILE_BYTES:
            _drop(self._directory, name, fd, is_readable=status.st_size == 0)
        else:
            file = _File(self._directory, name, fd, is_orphaned=True)
            self._adopted.append(file)
            yield from file.orphans()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A slab's place in a file."""

    file: "_File"
    counts: memoryview
    at: int

    def clear(self) -> None:
        """Take it out."""
        self.file.clear(self.at)


class _File:
    """An open file that is ours, mapped."""

    def __init__(self, directory: int, name: str, fd: int, *, is_orphaned: bool = False) -> None:
        """Take over the descriptor."""
        self.name = name
        self.is_closed = False
        self._directory, self._fd = directory, fd
        self._map = mmap.mmap(fd, FILE_BYTES)
        self._bytes = memoryview(self._map)
        self._counts = self._bytes[len(_HEAD) : _MARKS_AT].cast("Q")
        self._marks = self._bytes[_MARKS_AT:_TEXTS_AT].cast("Q")
        if not is_orphaned:
            self._bytes[: len(_HEAD)] = _HEAD
        self._is_orphaned = is_orphaned
        self._is_readable = self._bytes[: len(_HEAD)] == _HEAD
        self._free = list(range(SLABS))
        self._used = 0

    def enter(self, text: bytes, size: int) -> _Entry | None:
        """Write a slab down."""
        if not self._free or len(text) > TEXT_BYTES:
            return None
        at = self._free.pop()
        begin = _TEXTS_AT + at * TEXT_BYTES
        self._bytes[begin : begin + len(text)] = text
        self._counts[at] = size
        self._marks[at] = _mark(text)
        self._used += 1
        return _Entry(self, self._counts, at)

    def clear(self, at: int) -> None:
        """Take a slab out. An orphaned file is removed with its last."""
        if self.is_closed:
            return
        self._marks[at] = 0
        self._free.append(at)
        self._used -= 1
        if self._is_orphaned and not self._used:
            self.close()

    def orphans(self) -> Iterator[Orphan]:
        """Yield what is written here; what is not readable stays."""
        for at, mark in enumerate(self._marks.tolist() if self._is_readable else ()):
            if not mark:
                continue
            begin = _TEXTS_AT + at * TEXT_BYTES
            text = bytes(self._bytes[begin : begin + min(mark >> 32, TEXT_BYTES)])
            try:
                terms, size = read_slab(text if mark == _mark(text) else b"")
            except ValueError:
                self._is_readable = False
                continue
            left = min(self._counts[at], size)
            self._used += 1
            yield Orphan(_Entry(self, self._counts, at), terms, size - left, left)
        if not self._used:
            self.close()

    def close(self) -> None:
        """Let go of it; remove it if all slabs were settled."""
        if self.is_closed:
            return
        self.is_closed = True
        for view in (self._counts, self._marks, self._bytes):
            view.release()
        self._map.close()
        if self._used:
            os.close(self._fd)
        else:
            _drop(self._directory, self.name, self._fd, is_readable=self._is_readable)


def _mark(text: bytes) -> int:
    return len(text) << 32 | crc32(text)


def _is_locked(fd: int) -> bool:
    """Take the lock of a file, if nobody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _drop(directory: int, name: str, fd: int, *, is_readable: bool) -> None:
    """Remove a file of ours; one that is not readable is put aside."""
    with suppress(FileNotFoundError):
        if is_readable:
            os.unlink(name, dir_fd=directory)
        else:
            os.replace(name, _ASIDE, src_dir_fd=directory, dst_dir_fd=directory)
            _log.warning("a journal of leases is not readable in whole; it was put aside", file=name, now=_ASIDE)
    os.close(fd)


def _own_directory(path: Path) -> int:
    """Return a descriptor of the directory, which nobody else may enter."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(fd)
        raise PermissionError(f"{path} must belong to this user alone (mode 0700)")
    return fd

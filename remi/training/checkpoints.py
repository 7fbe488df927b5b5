"""Files that are whole or not there at all, and the last two states of a long training."""

import hashlib
import io
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

KEPT = 2
SECONDS = float(os.environ.get("REMI_CHECKPOINT_SECONDS", 30))  # between two checkpoints of a training, at least


def write(path: Path, data: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class Checkpoints:
    """The last two states of one training, in a folder of its own: plain arrays in a file whose name has step and checksum.

    A file appears by one rename, so it is whole; one that was damaged later is passed over, and the one before it counts.
    Two processes that train the same write the same.

    Args:
        folder: created with the first file.
        seconds: `write` does nothing earlier than this after the last file, or after this object was made.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder, seconds
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """True when it is time for the next file."""
        return time.monotonic() - self._last >= self.seconds

    def write(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Store the state after `step` steps, and remove all but the last two; not if another process clears them just now."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        beside = self.folder / f".writing-{uuid.uuid4().hex}"
        try:
            with suppress(FileNotFoundError, FileExistsError):  # the folder goes in between; mkdir says either
                self.folder.mkdir(parents=True, exist_ok=True)
                write(beside, buffer.getvalue())
                beside.rename(self.folder / f"{step:010d}-{_digest(buffer.getvalue())}.npz")
        finally:
            beside.unlink(missing_ok=True)
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)
        self._last = time.monotonic()

    def latest(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Step and arrays of the last file that is as it was written; None without one."""
        for path in self._files():
            with suppress(OSError):  # removed in between, or unreadable
                data = path.read_bytes()
                step, _, digest = path.stem.partition("-")
                if _digest(data) == digest:
                    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                        return int(step), {name: arrays[name] for name in arrays.files}
        return None

    def clear(self) -> None:
        """Remove all files and the folder: the training is done."""
        for path in self._files("*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or another process writes
            self.folder.rmdir()

    def _files(self, pattern: str = "*.npz") -> list[Path]:
        with suppress(FileNotFoundError):  # the folder goes while it is read
            return sorted(self.folder.glob(pattern), reverse=True)
        return []


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]

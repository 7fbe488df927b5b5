"""Notes beside the run store on what is trained now and what failed; no result depends on them."""

import json
import os
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class Journal:
    """Who trains which runs, and why a run could not be trained; runs go by the names of their folders.

    Args:
        folder: of the notes; it is there only while there are any.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def training(self, names: Sequence[str]) -> Iterator[None]:
        """Note that this process trains these runs, as long as it does, and forget why they failed before."""
        note = f"{uuid.uuid4().hex}.json"
        self._write(note, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "runs": list(names)}))
        try:
            yield
            for name in names:
                (self.folder / f"{name}.failed").unlink(missing_ok=True)
        finally:
            (self.folder / note).unlink(missing_ok=True)
            self._tidy()

    def fail(self, names: Sequence[str], reason: str) -> None:
        """Note why these runs could not be trained."""
        for name in names:
            self._write(f"{name}.failed", reason)

    def running(self) -> set[str]:
        """The runs that some process trains now; a note of a process of this machine that is gone is removed."""
        found: set[str] = set()
        for path in self.folder.glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):  # written or removed just now
                note = json.loads(path.read_text())
                if note["host"] == socket.gethostname() and not _alive(note["pid"]):
                    path.unlink(missing_ok=True)
                else:
                    found.update(note["runs"])
        self._tidy()
        return found

    def failures(self) -> dict[str, str]:
        """The reasons, by run."""
        return {path.stem: path.read_text() for path in sorted(self.folder.glob("*.failed"))}

    def _write(self, name: str, text: str) -> None:
        for attempt in range(100):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_text(text)
                return
            except (FileNotFoundError, FileExistsError):  # another process has tidied the folder away in between
                if attempt == 99:
                    raise

    def _tidy(self) -> None:
        with suppress(OSError):  # not empty, or not there
            self.folder.rmdir()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True

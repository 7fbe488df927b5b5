"""The ground: what the core does without. An import of it stands inside `extra`, which says what to install when it is missing.

The core is torch, NumPy, SciPy and tqdm; `pyproject.toml` lists what each extra brings.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

DISTRIBUTION = "remi-losses"


class ExtraError(ImportError):
    """A module that is not installed; the message names the extra that brings it."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import in here what the extra `name` brings.

    Raises:
        ExtraError: a module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "remi":
            raise  # no extra would bring it
        install = f"pip install '{DISTRIBUTION}[{name}]'"
        message = f"{error.name} is not installed; it comes with the extra {name!r}: {install}"
        raise ExtraError(message, name=error.name) from None


def missing() -> dict[str, list[str]]:
    """By extra, what it brings and is not installed; empty where only the sources are found and no distribution."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    brought = [found.groups() for one in required if (found := re.match(r"([\w.-]+).*; extra == ['\"](\w+)['\"]$", one))]
    there = {_plain(found.name) for found in metadata.distributions()}
    return {name: [one for one, of in brought if of == name and _plain(one) not in there] for _, name in brought}


def _plain(name: str) -> str:
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()

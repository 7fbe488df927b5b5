"""Files of photographs: which ones a folder holds, and what a viewer would show of each; or one error with file and remedy."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remi.extras import extra

DEEP = ("I", "F")  # how PIL's modes of more than 8 bits begin
SEE_THROUGH = ("LA", "La", "PA", "RGBA", "RGBa")
CLUTTER = ("thumbs.db", "desktop.ini")  # what systems leave in folders, beside hidden files
PAPER_WHITE = (255, 255, 255, 255)


def listed(split: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Classes of a split, a folder each, and its photographs with the number of their class, in the order of their paths.

    Hidden files and folders are no part of it; links are followed.

    Raises:
        FileNotFoundError: there is no folder, or no photograph in one.
        ValueError: fewer than two classes, a file that is no photograph, or a link by which a photograph would come twice.
    """
    with extra("paper"):
        from PIL import Image

    if not split.is_dir():
        raise FileNotFoundError(f"{split} must hold a folder of images per class; it is not there")
    classes = sorted(path.name for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise FileNotFoundError(f"{split} must hold a folder of images per class; it has no folder")
    if len(classes) < 2:
        raise ValueError(f"{split} must hold at least two classes, a folder each; it has {classes[0]!r} alone")
    endings = set(Image.registered_extensions())
    samples = []
    seen = {os.path.realpath(split): str(split)}
    for label, name in enumerate(classes):
        found = sorted(_files(str(split / name), seen))
        if not found:
            raise FileNotFoundError(f"{split / name} must hold images; it has none")
        for where, file in found:
            path = os.path.join(where, file)
            if os.path.splitext(file)[1].lower() not in endings:
                raise ValueError(f"{path} is not an image by its name: move it out of the folder")
            samples.append((path, label))
    return classes, samples


def _files(folder: str, seen: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Folder and name of every visible file below a folder."""
    real = os.path.realpath(folder)
    if real in seen:
        raise ValueError(f"{folder} is a link to {seen[real]}, whose images would come twice: remove the link")
    seen[real] = folder
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
            continue
        if entry.is_dir():
            yield from _files(entry.path, seen)
        else:
            yield folder, entry.name


def read(path: str) -> Any:
    """An RGB photograph as a viewer shows it: upright as EXIF says, on white where it is transparent.

    Raises:
        OSError: the file is not a whole image.
        ValueError: it has more than 8 bits per channel, or several frames.
    """
    with extra("paper"):
        from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            frames, mode = getattr(image, "n_frames", 1), image.mode
            if frames == 1 and not mode.startswith(DEEP):
                upright = ImageOps.exif_transpose(image)
                if mode not in SEE_THROUGH and "transparency" not in upright.info:
                    return upright.convert("RGB")
                shown = upright.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", shown.size, PAPER_WHITE), shown).convert("RGB")
    except Exception as error:  # whatever a decoder says, it is about this file
        raise OSError(f"{path} is not a whole image: {error}") from None
    if frames > 1:
        raise ValueError(f"{path} has {frames} frames: save the one that is meant")
    raise ValueError(f"{path} has more than 8 bits per channel (PIL's mode {mode}): scale it to 0 to 255 and save it with 8 bits")

"""What people put into a folder of images: each is read as a viewer shows it, or refused with file and remedy."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from remi.training.images import Images, read_folder

SHAPE = np.zeros((16, 12), dtype=bool)  # a triangle, the same in no other orientation
for row in range(16):
    SHAPE[row, : row * 12 // 16] = True
DARK, LIGHT = 30, 220


def painted(low=DARK, high=LIGHT, dtype=np.uint8):
    """The triangle, light on dark."""
    return np.where(SHAPE, high, low).astype(dtype)


@pytest.fixture
def tree(tmp_path):
    """Two classes of two images in each split, of one size."""
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee")):
            for index in range(2):
                path = tmp_path / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(painted(DARK + 20 * label + 5 * index)).save(path)
    return tmp_path


def seen(tree, name, image, **saved):
    """The picture as the data set has it, (h, w, 3)."""
    path = tree / "train/ant" / name
    (tree / "train/ant/0.png").unlink()
    image.save(path, **saved)
    data = read_folder(tree)
    known = {np.stack([painted(DARK + shift)] * 3, -1).tobytes() for shift in (5, 20, 25)}
    arrays = [pixels.movedim(0, -1).numpy() for pixels in data.train_images]
    (found,) = [array for array in arrays if np.ascontiguousarray(array).tobytes() not in known]
    return found


def see_through(colour, mode):
    """The triangle in the alpha channel of an image of one colour."""
    image = Image.new("RGBA", SHAPE.shape[::-1], (*colour, 255))
    image.putalpha(Image.fromarray(np.where(SHAPE, 255, 0).astype(np.uint8)))
    return image.convert(mode)


TURNED = Image.Exif()
TURNED[0x0112] = 3  # upside down
MIRRORED = Image.Exif()
MIRRORED[0x0112] = 2
PALETTE_IMAGE = Image.fromarray(painted(0, 1))
PALETTE_IMAGE.putpalette([DARK] * 3 + [LIGHT] * 3)
SHOWN = {
    "grey": ("a.png", Image.fromarray(painted()), {}, painted()),
    "black and white": ("a.png", Image.fromarray(SHAPE), {}, np.where(SHAPE, 255, 0)),
    "palette": ("a.png", PALETTE_IMAGE, {}, painted()),
    "gif": ("a.gif", Image.fromarray(painted()), {}, painted()),
    "bmp in capitals": ("a.BMP", Image.fromarray(painted()), {}, painted()),
    "black in alpha": ("a.png", see_through((0, 0, 0), "RGBA"), {}, np.where(SHAPE, 0, 255)),
    "dark in alpha": ("a.png", see_through((DARK,) * 3, "RGBA"), {}, np.where(SHAPE, DARK, 255)),
    "grey with alpha": ("a.png", see_through((DARK,) * 3, "LA"), {}, np.where(SHAPE, DARK, 255)),
    "transparent colour": ("a.png", Image.fromarray(painted(0)), {"transparency": 0}, painted(255)),
    "upside down": ("a.png", Image.fromarray(painted()[::-1, ::-1]), {"exif": TURNED}, painted()),
    "mirrored": ("a.tiff", Image.fromarray(painted()[:, ::-1]), {"exif": MIRRORED}, painted()),
}


@pytest.mark.parametrize(("name", "image", "saved", "shown"), SHOWN.values(), ids=SHOWN)
def test_a_picture_is_what_a_viewer_shows(tree, name, image, saved, shown):
    assert np.array_equal(seen(tree, name, image, **saved), np.stack([shown] * 3, -1))


def frames(path):
    images = [Image.fromarray(painted(DARK + 40 * index)) for index in range(3)]
    images[0].save(path, save_all=True, append_images=images[1:])


def deep(dtype, high):
    def save(path):
        Image.fromarray(painted(high // 9, high, dtype)).save(path)

    return save


def said(text):
    return lambda path: path.write_text(text)


def link(target):
    return lambda path: os.symlink(path.parent / target, path, target_is_directory=True)


REFUSED = {
    "16 bits": ("a.png", deep(np.uint16, 60000), r"a\.png has more than 8 bits per channel .*I;16.*save it with 8 bits"),
    "12 bits in 16": ("a.tif", deep(np.uint16, 4000), "more than 8 bits"),
    "32 bits": ("a.tiff", deep(np.int32, 10**6), r"a\.tiff has more than 8 bits per channel \(PIL's mode I\)"),
    "floats": ("a.tiff", deep(np.float32, 1), r"mode F\): scale it to 0 to 255"),
    "an animation": ("a.gif", frames, r"a\.gif has 3 frames: save the one that is meant"),
    "several pages": ("a.tiff", frames, "has 3 frames"),
    "a list of labels": ("labels.csv", said("0,1"), r"labels\.csv is not an image by its name: move it out of the folder"),
    "a file without an ending": ("README", said("mine"), "README is not an image by its name"),
    "a loop of links": ("again", link("."), r"again is a link to .*ant, whose images would come twice: remove the link"),
    "a link up": ("up", link(".."), r"up is a link to .*train, whose"),
    "a link to another class": ("more", link("../bee"), "would come twice"),
    "a link to the test split": ("other", link("../../test/ant"), None),
}


@pytest.mark.parametrize(("name", "save", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_misread_is_refused_with_file_and_remedy(tree, name, save, message):
    save(tree / "train/ant" / name)
    if message is None:  # a link to other images is a folder like any other
        assert read_folder(tree).sizes == (6, 4)
        return
    with pytest.raises(ValueError, match=message):
        read_folder(tree)


@pytest.mark.parametrize("name", [".ipynb_checkpoints/0.png", ".DS_Store", "ant/._0.png", "ant/.cache/a.png", "bee/Thumbs.db"])
def test_what_systems_and_editors_leave_is_no_part_of_it(tree, name):
    before = read_folder(tree)
    path = tree / "train" / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(painted()).save(path, format="png")
    assert read_folder(tree).checksum == before.checksum


def test_one_class_has_nothing_to_tell(tree):
    for split in ("train", "test"):
        (tree / split / "bee").rename(tree / f"{split}-bee")
    with pytest.raises(ValueError, match=r"train must hold at least two classes, a folder each; it has 'ant' alone"):
        read_folder(tree)
    one = torch.zeros(3, dtype=torch.long)
    assert str(Images("one", 1, torch.zeros(3, 4), one, torch.zeros(3, 4), one).true_mi) == "0.0"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("picture", [painted(255, 255), painted()], ids=["white", "one picture"])
def test_a_split_whose_pixels_never_vary_is_refused(tree, split, picture):
    for path in (tree / split).rglob("*.png"):
        Image.fromarray(picture).save(path)
    with pytest.raises(ValueError, match=f"{split} must hold images that differ; all 4 are the same"):
        read_folder(tree)


def test_a_class_without_images_is_named(tree):
    (tree / "test/bee/0.png").unlink()
    (tree / "test/bee/1.png").unlink()
    with pytest.raises(OSError, match="test/bee must hold images; it has none"):
        read_folder(tree)

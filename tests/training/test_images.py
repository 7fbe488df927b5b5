"""Images that fit the benchmarks' assumptions, wherever they come from."""

import hashlib
import math
import pickle
import shutil
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from remi.training import images
from remi.training.images import DATASETS, _photographs, digit_pairs, digits, noise, normalized, read_folder

each_dataset = pytest.mark.parametrize("name", ["digits", "digit-pairs"])


def as_bytes(images):
    return [image.numpy().tobytes() for image in images]


def halves(images):
    left, right = images.unflatten(-1, (8, 16)).split(8, -1)
    return as_bytes(left.reshape(-1, 64)), as_bytes(right.reshape(-1, 64))


def test_digits_are_split_without_loss_or_overlap():
    data = digits()
    train, test = as_bytes(data.train_images), as_bytes(data.test_images)
    source, labels = load_digits(return_X_y=True)
    everything = dict(zip(as_bytes(torch.tensor(source / 8 - 1, dtype=torch.float32)), labels, strict=True))
    assert dict(zip(train + test, torch.cat([data.train_labels, data.test_labels]).tolist(), strict=True)) == everything
    assert not set(train) & set(test)  # scikit-learn's 1,797 digits hold no duplicate either


def test_pairs_are_exactly_uniform():
    data = digit_pairs()
    assert torch.equal(torch.bincount(data.train_labels, minlength=100), torch.full((100,), 50))
    assert torch.equal(torch.bincount(data.test_labels, minlength=100), torch.full((100,), 20))


@pytest.mark.parametrize("split", ["train", "test"])
def test_pairs_join_two_digits_of_their_own_split(split):
    source, pairs = digits(), digit_pairs()
    label = dict(zip(as_bytes(getattr(source, f"{split}_images")), getattr(source, f"{split}_labels").tolist(), strict=True))
    left, right = halves(getattr(pairs, f"{split}_images"))
    assert [10 * label[a] + label[b] for a, b in zip(left, right, strict=True)] == getattr(pairs, f"{split}_labels").tolist()
    assert len(set(left)) > 0.6 * len(label)  # drawn at random, not the same few


def test_no_test_digit_is_in_a_training_pair():
    left, right = halves(digit_pairs().train_images)
    assert not {*left, *right} & {*as_bytes(digits().test_images)}


def test_number_of_pairs_must_allow_uniform_labels():
    with pytest.raises(ValueError, match="multiple of 100 for uniform labels, got 150"):
        digit_pairs(train=150)


@pytest.mark.parametrize(
    ("name", "classes", "train", "test", "pixels"), [("digits", 10, 1437, 360, 64), ("digit-pairs", 100, 5000, 2000, 128)]
)
def test_shapes(name, classes, train, test, pixels):
    data = DATASETS[name]()
    assert (data.name, data.classes) == (name, classes)
    assert (data.train_images.shape, data.test_images.shape) == ((train, pixels), (test, pixels))
    for values, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert (values.dtype, values.min(), values.max()) == (torch.float32, -1, 1)
        assert torch.equal(labels.unique(), torch.arange(classes))
        assert len(labels) == len(values)


def test_true_mi_is_the_entropy_of_the_training_labels():
    assert digit_pairs().true_mi == pytest.approx(math.log(100), rel=1e-12)
    assert math.log(10) - 1e-3 < digits().true_mi < math.log(10)
    quarters = replace(digits(), train_labels=torch.tensor([0, 0, 1, 3]))  # 1/2, 1/4, 1/4: 3/2 log 2
    assert quarters.true_mi == pytest.approx(1.5 * math.log(2), rel=1e-12)


@each_dataset
@pytest.mark.parametrize("tensor", ["train_images", "train_labels", "test_images", "test_labels"])
def test_checksum_changes_with_one_value(name, tensor):
    data = DATASETS[name]()
    values = getattr(data, tensor).clone()
    assert replace(data, **{tensor: values}).checksum == data.checksum
    values.view(-1)[-1] += 1
    assert replace(data, **{tensor: values}).checksum != data.checksum


@each_dataset
def test_data_sets_are_the_same_at_every_reading(name):
    assert DATASETS[name].__wrapped__().checksum == DATASETS[name]().checksum


# Photographs


def painted(size, seed=0):
    """A random image, smooth enough to be a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def as_pixels(image):
    """The bytes of an image as PIL has them."""
    return image.movedim(0, -1).contiguous().numpy().tobytes()


@pytest.fixture
def tree(tmp_path):
    """Two classes, 3 + 1 images to train on and 1 + 1 to test."""
    for index, place in enumerate(("train/ant/a", "train/ant/b", "train/ant/c", "train/bee/a", "test/ant/a", "test/bee/a")):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        painted((32, 24), index).save(tmp_path / f"{place}.png")
    return tmp_path


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where data sets are looked for."""
    monkeypatch.setenv("REMI_DATA", str(tmp_path))
    return tmp_path


def test_any_folder_is_a_data_set(tree, root):
    data = DATASETS["folder"]()
    assert (data.name, data.classes, data.train_images.dtype) == ("folder", 2, torch.uint8)
    assert (data.train_images.shape, data.test_images.shape) == ((4, 3, 24, 32), (2, 3, 24, 32))
    assert (sorted(data.train_labels.tolist()), sorted(data.test_labels.tolist())) == ([0, 0, 0, 1], [0, 1])
    assert data.true_mi == pytest.approx(math.log(4) - 0.75 * math.log(3), rel=1e-12)  # H(3/4, 1/4)
    label = {np.array(painted((32, 24), index)).tobytes(): index in (3, 5) for index in range(6)}
    found = dict(
        zip(map(as_pixels, [*data.train_images, *data.test_images]), [*data.train_labels, *data.test_labels], strict=True)
    )
    assert found == label


def test_a_folder_is_not_in_the_order_of_its_classes(tmp_path):
    for split in ("train", "test"):
        for index in range(40):
            path = tmp_path / split / "abcd"[index // 10] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            painted((8, 8), index).save(path)
    data = read_folder(tmp_path)
    for labels in (data.train_labels, data.test_labels):
        assert len(labels) == 40
        assert all(len(batch.unique()) > 1 for batch in labels.split(10))
    assert read_folder(tmp_path).checksum == data.checksum


def test_images_of_several_sizes_are_resized_as_the_reference_does(tree):
    painted((40, 50), 1).save(tree / "train/ant/b.png")
    data = read_folder(tree)
    reference = Compose([Resize((224, 224)), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])
    for index in range(4):
        expected = reference(painted((40, 50) if index == 1 else (32, 24), index))
        error = (normalized(data.train_images, 224) - expected).abs().flatten(1).amax(1)
        assert error.min() < 1e-6  # one of them, exactly: PIL has resized both


@pytest.mark.parametrize(("size", "side"), [((32, 32), 224), ((300, 200), 224), ((32, 32), 32), ((224, 224), 224)])
def test_resizing_on_the_device_is_that_of_the_reference_transform(size, side):
    images = [painted(size, seed) for seed in range(5)] + [
        Image.fromarray(noise("cifar-10", 1).train_images[0].movedim(0, -1).numpy())
    ]
    reference = Compose([Resize((side, side)), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])
    for image in images:
        pixels = torch.from_numpy(np.array(image)).movedim(-1, 0).unsqueeze(0)
        error = (normalized(pixels, side) - reference(image)).abs().max()
        # PIL rounds to whole grey levels after each of its two passes, of columns and of rows: at most one of 255 levels apart
        assert error < (1e-6 if image.size == (side, side) else 2 / 255)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no image" + b])
def test_a_broken_file_is_named(tree, damage):
    broken = tree / "test/bee/a.png"
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(OSError, match=r"test/bee/a\.png is not a whole image"):
        read_folder(tree)


def test_a_folder_that_is_not_there_is_named(tree, tmp_path):
    (tree / "test").rename(tree / "elsewhere")
    with pytest.raises(OSError, match=f"{tmp_path}/test"):
        read_folder(tree)


def test_splits_with_different_classes_are_refused(tree):
    (tree / "test/bee").rename(tree / "test/wasp")
    with pytest.raises(ValueError, match=r"same classes, got \['ant', 'bee'\], \['ant', 'wasp'\]"):
        read_folder(tree)


def test_both_cifar_can_lie_in_one_place_as_folders_of_their_names(tree, root, tmp_path, monkeypatch):
    for name, other in (("cifar-10", "cifar-100"), ("cifar-100", "cifar-10")):
        shutil.copytree(tree, tmp_path / "both" / name, ignore=shutil.ignore_patterns("both"))
        monkeypatch.setattr(images, "CIFAR", {name: 2, other: 3})
        monkeypatch.setenv("REMI_DATA", str(tmp_path / "both"))
        assert images.at_hand(name)
        assert DATASETS[name]().classes == 2


def test_a_folder_with_other_classes_is_not_cifar(tree, root):
    with pytest.raises(ValueError, match=r"cifar-100 has 100 classes, and .*train has 2"):
        DATASETS["cifar-100"]()


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def archive(root, monkeypatch):
    """CIFAR-10 as torchvision finds it on its server, with 20 images in each of 6 batches."""
    source, rng = root / "server/cifar-10-batches-py", np.random.default_rng(0)
    source.mkdir(parents=True)
    pixels, labels = rng.integers(0, 256, (120, 3072), dtype=np.uint8), np.arange(120) % 10
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    contents = {
        name: {"data": pixels[20 * i : 20 * i + 20], "labels": labels[20 * i : 20 * i + 20].tolist()}
        for i, name in enumerate(names)
    }
    contents["batches.meta"] = {"label_names": list("abcdefghij")}
    for name, content in contents.items():
        (source / name).write_bytes(pickle.dumps(content))
    with tarfile.open(root / "server/cifar.tar.gz", "w:gz") as packed:
        packed.add(source, source.name)

    def md5(path):
        return hashlib.md5(path.read_bytes()).hexdigest()

    listed = [[name, md5(source / name)] for name in names]
    handler = partial(SilentHandler, directory=root / "server")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {
        "url": f"http://127.0.0.1:{server.server_port}/cifar.tar.gz",
        "tgz_md5": md5(root / "server/cifar.tar.gz"),
        "train_list": listed[:5],
        "test_list": listed[5:],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5(source / "batches.meta")},
    }.items():
        monkeypatch.setattr(datasets.CIFAR10, name, value)
    yield pixels, labels
    server.shutdown()
    server.server_close()


def test_cifar_is_downloaded_once(archive, root, capsys):
    pixels, labels = archive
    data = DATASETS["cifar-10"]()
    assert (data.name, data.classes) == ("cifar-10", 10)
    assert np.array_equal(torch.cat([data.train_images, data.test_images]).flatten(1).numpy(), pixels)
    assert torch.cat([data.train_labels, data.test_labels]).tolist() == labels.tolist()
    assert len(data.test_labels) == 20
    assert data.true_mi == pytest.approx(math.log(10))
    assert DATASETS["cifar-10"]() is data


def test_a_wrong_checksum_is_named(archive, monkeypatch, capsys):
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(OSError, match=r"cifar-10: .*cifar-10-python.tar.gz with MD5 0{32} in .*corrupted"):
        DATASETS["cifar-10"]()


class Payload:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_a_batch_that_somebody_changed_is_not_unpickled(archive, root, capsys):
    """CIFAR comes as pickles in a tar file: torchvision opens both only when their MD5 is the one that it states."""
    pixels, _ = archive
    DATASETS["cifar-10"]()
    (root / "cifar-10-batches-py/data_batch_1").write_bytes(pickle.dumps(Payload()))
    _photographs.cache_clear()
    data = DATASETS["cifar-10"]()  # unpacked again
    assert np.array_equal(torch.cat([data.train_images, data.test_images]).flatten(1).numpy(), pixels)


def test_an_archive_that_somebody_changed_is_not_unpacked(archive, root, capsys):
    evil = root / "evil"
    evil.write_bytes(pickle.dumps(Payload()))
    with tarfile.open(root / "server/cifar.tar.gz", "w:gz") as packed:
        packed.add(evil, "cifar-10-batches-py/data_batch_1")
        packed.add(evil, "../outside")
    with pytest.raises(OSError, match="could not be downloaded"):
        DATASETS["cifar-10"]()
    assert not (root / "cifar-10-batches-py").exists()
    assert not (root.parent / "outside").exists()


def test_cifar_that_cannot_be_had_is_one_clear_error(archive, root, capsys):
    (root / "server/cifar.tar.gz").unlink()
    with pytest.raises(OSError, match=f"neither image folders .* in {root}, and it could not be downloaded"):
        DATASETS["cifar-10"]()


def test_a_balanced_part_is_the_same_images_equally_many_of_each_class():
    data = noise("cifar-10", 400)
    part = data.balanced(100)
    assert torch.bincount(part.train_labels).tolist() == [10] * 10
    known = dict(zip(as_bytes(data.train_images), data.train_labels.tolist(), strict=True))
    assert [known[image] for image in as_bytes(part.train_images)] == part.train_labels.tolist()
    assert len(set(as_bytes(part.train_images))) == 100
    assert torch.equal(part.train_images, data.balanced(100).train_images)
    assert part.checksum != data.checksum
    assert part.true_mi == pytest.approx(math.log(10), rel=1e-12)


@pytest.mark.parametrize("size", [0, -10, 105, 1000])
def test_a_part_that_cannot_be_balanced_is_refused(size):
    with pytest.raises(ValueError, match=f"train_size must be a multiple of 10, the classes of noise, from 10 to .*; got {size}"):
        noise("cifar-10", 400).balanced(size)

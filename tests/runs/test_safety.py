"""Nothing that is read is executed, nothing is written outside its place, and the report requests nothing."""

import ast
import hashlib
import io
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_page import Reader
from test_store import ONE_HOT, OUTCOME, equal, saved

import remi
from remi.paper import figures
from remi.runs import store
from remi.training.checkpoints import Checkpoints, _digest

SOURCES = sorted(Path(remi.__file__).parent.rglob("*.py"))
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "zipfile", "tarfile"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {"system", "popen", "read_pickle", "extractall", "unpack_archive"}
SAFE = {  # functions that are safe with this argument only
    **dict.fromkeys(("np.load", "np.save", "np.savez", "np.savez_compressed"), ("allow_pickle", "False")),
    "torch.load": ("weights_only", "True"),
}


def dangers(source):
    """What in a module could execute what it reads, or unpack it somewhere."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            function, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
            unsafe = function.removeprefix("builtins.") in BUILTINS or function.split(".")[-1] in METHODS
            unsafe |= function in SAFE and given.get(SAFE[function][0]) != SAFE[function][1]
            unsafe |= given.get("shell", "False") != "False"
            found += [ast.unparse(node)] * unsafe
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_can_execute_what_it_reads(path):
    assert dangers(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "builtins.exec(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.savez(path, a=a)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "shutil.unpack_archive(path)",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert len(dangers(source)) == 1


class Payload:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "executed")


def archive(members):
    """The bytes of a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def payloads(tmp_path):
    """Files for the place of an array file, and the file that appears if one is executed."""
    trace, objects, plain = tmp_path / "trace", io.BytesIO(), io.BytesIO()
    np.save(objects, np.array([Payload(trace)], dtype=object), allow_pickle=True)
    np.save(plain, np.arange(3.0))
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists()  # it works
    trace.unlink()
    contents = {
        "an array of objects": archive({"trace.npy": objects.getvalue()}),
        "a pickle as a member": archive({"trace.npy": pickle.dumps(Payload(trace))}),
        "a pickle": pickle.dumps(Payload(trace)),
        "a member outside": archive({"../../outside.npy": plain.getvalue(), f"{tmp_path}/outside.npy": plain.getvalue()}),
    }
    return contents, trace


KINDS = ("an array of objects", "a pickle as a member", "a pickle", "a member outside")


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_with_a_payload_is_read_without_executing_it(kind, payloads, empty_store, tmp_path):
    contents, trace = payloads
    whole, folder = saved(), store.folder(ONE_HOT)
    record = json.loads((folder / "record.json").read_text())
    record["arrays_sha256"] = hashlib.sha256(contents[kind]).hexdigest()  # whoever made it knows the format
    record["sha256"] = store._digest(record)
    (folder / "arrays.npz").write_bytes(contents[kind])
    (folder / "record.json").write_text(json.dumps(record))
    before = sorted(tmp_path.rglob("*"))
    found = store.load(ONE_HOT)
    assert not trace.exists()
    assert sorted(tmp_path.rglob("*")) == before
    if kind == "a member outside":
        assert found.arrays[f"{tmp_path}/outside"].tolist() == [0, 1, 2]  # a name in memory
        assert not (tmp_path / "outside.npy").exists()
    elif kind == "a pickle as a member":
        assert isinstance(found.arrays["trace"], bytes)  # as they are
    else:
        assert found is None
    shutil.rmtree(folder)
    assert equal(saved(ONE_HOT, OUTCOME), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_with_a_payload_is_read_without_executing_it(kind, payloads, tmp_path):
    contents, trace = payloads
    kept = Checkpoints(tmp_path / "kept")
    kept.folder.mkdir()
    (kept.folder / f"0000000100-{_digest(contents[kind])}.npz").write_bytes(contents[kind])
    before = sorted(tmp_path.rglob("*"))
    if "member" in kind:
        assert kept.latest()[0] == 100  # arrays and bytes as they are
    else:
        with pytest.raises(ValueError, match="allow_pickle"):
            kept.latest()
    assert not trace.exists()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_committed_report_requests_nothing():
    html = (figures.folder("quick") / "report.html").read_text()
    tags = Reader(html).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")]
        outside = {
            name for name, value in attributes.items() if "//" in (value or "") and not value.startswith("data:image/png;")
        }
        assert outside <= ({"href"} if tag == "a" else set())  # a plain link
    assert set(re.findall(r"url\(.{16}", html)) == {"url(data:font/woff;b"}
    assert "@import" not in html

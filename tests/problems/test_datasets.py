import gzip
import hashlib
import http.server
import shutil
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfgd.problems import datasets
from gfgd.problems.datasets import DatasetError, IdxFile

# ── a small MNIST in a folder of its own ─────────────────────────────────────────────────────────

# Enough training images for the subset's indices; each 2×2 image is its own index, big-endian.
SHAPES = {"train": (50_100, 2, 2), "test": (7, 2, 2)}
NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
IMAGES = "train-images-idx3-ubyte"
REAL_FILES = datasets.MNIST_FILES


def small_contents() -> dict[str, bytes]:
    contents = {}
    for split, (images, labels) in NAMES.items():
        index = np.arange(SHAPES[split][0])
        lengths = np.array(SHAPES[split], ">u4").tobytes()
        contents[images] = b"\0\0\x08\x03" + lengths + index.astype(">u4").tobytes()
        contents[labels] = b"\0\0\x08\x01" + lengths[:4] + (index % 10).astype(np.uint8).tobytes()
    return contents


CONTENTS = small_contents()


@pytest.fixture(autouse=True)
def small_mnist(monkeypatch, tmp_path):
    """Small files, a folder of their own, and no network: nothing here ever leaves the machine."""

    def table(split):
        shapes = (SHAPES[split], SHAPES[split][:1])
        return tuple(
            IdxFile(name, shape, hashlib.sha256(CONTENTS[name]).hexdigest())
            for name, shape in zip(NAMES[split], shapes, strict=True)
        )

    monkeypatch.setattr(datasets, "MNIST_FILES", {split: table(split) for split in SHAPES})
    monkeypatch.setattr(
        datasets, "MNIST_MIRRORS", ("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/")
    )
    monkeypatch.setattr(datasets, "DOWNLOAD_PAUSE", 0.0)
    monkeypatch.setenv("GFGD_DATA", str(tmp_path / "unset"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def no_download(monkeypatch):
    def fail(url, path):
        raise AssertionError(f"tried to download {url}")

    monkeypatch.setattr(datasets, "_retrieve", fail)


@pytest.fixture
def folder(tmp_path):
    """A folder with the four files, compressed."""
    path = tmp_path / "mnist"
    path.mkdir()
    for name, contents in CONTENTS.items():
        (path / f"{name}.gz").write_bytes(gzip.compress(contents, 1))
    return path


@contextmanager
def served(files: dict[str, bytes]):
    """Serve files on a port of this machine; yield the address and the list of requested paths."""
    requested = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requested
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def use_mirrors(monkeypatch, address: str) -> None:
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (f"{address}/first/", f"{address}/second/"))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ── reading ──────────────────────────────────────────────────────────────────────────────────────


def test_each_has_a_title_for_texts():
    assert set(datasets.TITLES) == set(datasets.NAMES)


def test_pixels_are_normalised_and_rows_are_images(folder, no_download):
    images, labels = datasets.mnist("test", folder)
    assert images.shape == (7, 4) and images.dtype == torch.float64
    assert labels.tolist() == list(range(7)) and labels.dtype == torch.int64
    pixels = torch.tensor([0, 0, 0, 5], dtype=torch.float64)
    torch.testing.assert_close(images[5], (pixels / 255 - 0.1307) / 0.3081)


def test_plain_files_read_as_compressed_ones_do(folder, no_download):
    compressed = datasets.mnist(directory=folder)
    for name, contents in CONTENTS.items():
        (folder / f"{name}.gz").unlink()
        (folder / name).write_bytes(contents)
    plain = datasets.mnist(directory=folder)
    assert torch.equal(plain.images, compressed.images)
    assert torch.equal(plain.labels, compressed.labels)


def test_a_browser_may_have_unpacked_a_file_and_kept_its_name(folder, no_download):
    (folder / f"{IMAGES}.gz").write_bytes(CONTENTS[IMAGES])
    assert len(datasets.mnist(directory=folder).images) == SHAPES["train"][0]


def test_subset_is_every_50th_of_the_first_50_000(folder, no_download):
    subset = datasets.mnist_subset(folder)
    pixels = (subset.images * 0.3081 + 0.1307) * 255
    index = pixels.round().to(torch.int64) @ torch.tensor([2**24, 2**16, 2**8, 1])
    assert index.tolist() == list(range(0, 50_000, 50))
    assert subset.labels.tolist() == [0] * 1000  # the index modulo 10
    assert subset.name == "mnist_subset" and subset.image_shape == (2, 2)


def test_results_are_the_callers_own(folder, no_download):
    first = datasets.mnist_subset(folder)
    before = first.images.clone()
    first.images.zero_()
    assert torch.equal(datasets.mnist_subset(folder).images, before)


def test_the_folder_is_the_argument_then_the_environment_then_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("GFGD_DATA", str(tmp_path / "environment"))
    assert datasets.data_directory(tmp_path / "argument") == tmp_path / "argument"
    assert datasets.data_directory() == tmp_path / "environment"
    monkeypatch.setenv("GFGD_DATA", "~/mnist")
    assert datasets.data_directory() == Path.home() / "mnist"
    monkeypatch.setenv("GFGD_DATA", "")
    (tmp_path / "data").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "gfgd" / "problems" / "datasets.py"))
    assert datasets.data_directory() == tmp_path / "data"
    (tmp_path / "pyproject.toml").unlink()  # installed: what lies beside the package is not ours
    assert tmp_path not in datasets.data_directory().parents


def test_fetch_returns_a_complete_folder_and_writes_nothing(monkeypatch, folder, no_download):
    monkeypatch.setenv("GFGD_DATA", str(folder))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert datasets.fetch_mnist() == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


# ── damaged files ────────────────────────────────────────────────────────────────────────────────


def with_header(contents: bytes, header: bytes) -> bytes:
    return header + contents[len(header) :]


GOOD = CONTENTS[IMAGES]
FLOATS = with_header(GOOD, b"\0\0\x0d\x03")
DAMAGES = {
    "truncated gzip": (gzip.compress(GOOD, 1)[:-1000], "expected 200,416 bytes .* cut short after"),
    "gzip without its end": (gzip.compress(GOOD, 1)[:-4], "cut short after 200,416"),
    "corrupted gzip": (gzip.compress(GOOD, 1)[:-8] + bytes(8), "expected intact gzip data"),
    "web page": (b"<!DOCTYPE html>", "expected gzip data .* found 3c 21 44 .*<!DOCTYP"),
    "empty": (b"", "found an empty file"),
    "empty gzip": (gzip.compress(b""), "expected IDX magic 00 00 08 03, found nothing"),
    "labels": (CONTENTS[NAMES["train"][1]], "expected IDX magic 00 00 08 03, found 00 00 08 01"),
    "floats": (FLOATS, "expected gzip data .* or IDX data .* found 00 00 0d 03"),
    "compressed floats": (
        gzip.compress(FLOATS, 1),
        "expected IDX magic 00 00 08 03, found 00 00 0d",
    ),
    "other shape": (
        with_header(GOOD, b"\0\0\x08\x03\0\0\0\x09"),
        r"expected IDX shape \(50100, 2, 2\), found \(9, 2, 2\)",
    ),
    "header cut": (GOOD[:9], "expected 200,416 bytes uncompressed, found 9"),
    "truncated": (GOOD[:-1], "expected 200,416 bytes uncompressed, found 200,415"),
    "too long": (gzip.compress(GOOD + bytes(10**6), 1), "200,416 bytes uncompressed, found more"),
    "one bit": (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "SHA-256 [0-9a-f]{64} uncompressed, found"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_left_alone(folder, no_download, damage):
    contents, message = DAMAGES[damage]
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(contents)
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.mnist_subset(folder)
    assert str(path) in str(caught.value)
    assert "Remedy: delete this file" in str(caught.value)
    assert path.read_bytes() == contents
    with pytest.raises(DatasetError, match="is damaged"):
        datasets.fetch_mnist(folder)


def test_a_file_that_cannot_be_read_is_an_error(folder, no_download):
    path = folder / f"{IMAGES}.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        datasets.mnist(directory=folder)
    path.rmdir()
    path.symlink_to(folder / "nowhere")
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        datasets.mnist(directory=folder)
    assert path.is_symlink()


# ── downloads ────────────────────────────────────────────────────────────────────────────────────


def small_site(folder: Path, prefix: str) -> dict[str, bytes]:
    return {f"/{prefix}/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_download_of_all_four_files(monkeypatch, folder, tmp_path, capfd):
    target = tmp_path / "new" / "folder"
    with served(small_site(folder, "first")) as (address, requested):
        use_mirrors(monkeypatch, address)
        assert datasets.fetch_mnist(target) == target
        assert len(requested) == 4
        datasets.fetch_mnist(target)
        assert len(requested) == 4  # nothing is downloaded twice
    assert names_in(target) == names_in(folder)
    assert f"{IMAGES}.gz: 100%" in capfd.readouterr().err  # the progress bar
    assert len(datasets.mnist_subset(target).images) == 1000


@pytest.mark.parametrize("bad", [b"<html>", gzip.compress(GOOD, 1)[:-100], GOOD[:-1] + b"x"])
def test_second_mirror_where_the_first_is_bad(monkeypatch, folder, tmp_path, bad):
    site = small_site(folder, "second") | {f"/first/{IMAGES}.gz": bad}
    with served(site) as (address, requested):
        use_mirrors(monkeypatch, address)
        datasets.mnist_subset(tmp_path / "new")
    assert requested[:2] == [f"/first/{IMAGES}.gz", f"/second/{IMAGES}.gz"]
    assert names_in(tmp_path / "new") == [f"{name}.gz" for name in NAMES["train"]]


def test_a_mirror_is_tried_again(monkeypatch, folder, tmp_path):
    calls = []

    def second_time_lucky(url, path):
        calls.append(url)
        if len(calls) <= 2:
            raise ConnectionResetError(104, "Connection reset by peer")
        path.write_bytes((folder / url.rpartition("/")[2]).read_bytes())

    monkeypatch.setattr(datasets, "_retrieve", second_time_lucky)
    datasets.mnist("test", tmp_path / "new")
    assert calls[0] == calls[2] != calls[1]
    assert names_in(tmp_path / "new") == [f"{name}.gz" for name in NAMES["test"]]


def test_bad_downloads_never_land(monkeypatch, folder, tmp_path):
    good = (folder / f"{NAMES['train'][1]}.gz").read_bytes()
    target = tmp_path / "target"
    target.mkdir()
    (target / f"{NAMES['train'][1]}.gz").write_bytes(good)
    site = {f"/{mirror}/{IMAGES}.gz": b"<html>" for mirror in ("first", "second")}
    with served(site) as (address, requested):
        use_mirrors(monkeypatch, address)
        with pytest.raises(DatasetError, match="downloading it failed") as caught:
            datasets.fetch_mnist(target)
    assert "/first/" in str(caught.value) and "/second/" in str(caught.value)
    assert "expected gzip data" in str(caught.value)
    assert len(requested) == datasets.DOWNLOAD_ROUNDS * 2
    assert names_in(target) == [f"{NAMES['train'][1]}.gz"]
    assert (target / f"{NAMES['train'][1]}.gz").read_bytes() == good


def test_an_interrupted_download_leaves_nothing(monkeypatch, tmp_path):
    def interrupted(url, path):
        path.write_bytes(b"\x1f\x8b half")
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "_retrieve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        datasets.mnist(directory=tmp_path / "new")
    assert names_in(tmp_path / "new") == []


def test_no_network(monkeypatch, tmp_path):
    def no_name(*args, **kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_name)
    mirrors = ("http://first.invalid/", "http://second.invalid/")
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", mirrors)
    with pytest.raises(DatasetError) as caught:
        datasets.mnist_subset(tmp_path / "new")
    message = str(caught.value)
    assert str(tmp_path / "new") in message
    for mirror in mirrors:
        url = f"{mirror}{IMAGES}.gz"
        assert message.count(f"{url}: Temporary failure in name resolution") == 1
    assert "GFGD_DATA" in message and "datasets.digits()" in message
    assert all(name in message for pair in NAMES.values() for name in pair)


def test_a_mirror_without_the_file_says_so(monkeypatch, tmp_path):
    with served({}) as (address, _):
        use_mirrors(monkeypatch, address)
        with pytest.raises(DatasetError, match="404 Client Error"):
            datasets.mnist_subset(tmp_path / "new")


def test_no_write_permission(monkeypatch, folder, tmp_path, no_download):
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(DatasetError, match="downloaded into it: it is not a folder"):
        datasets.mnist_subset(file)
    with pytest.raises(DatasetError, match="cannot be downloaded into it") as caught:
        datasets.mnist_subset(file / "below")
    assert str(file / "below") in str(caught.value) and "GFGD_DATA" in str(caught.value)
    assert file.read_text() == "not a folder"

    def denied(self, **kwargs):  # what a read-only folder answers; root may write even there
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(DatasetError, match="Permission denied"):
        datasets.mnist_subset(tmp_path / "new")
    assert len(datasets.mnist_subset(folder).images) == 1000  # reading needs no such permission


# ── names, digits, documentation ─────────────────────────────────────────────────────────────────


def test_an_unknown_name_gives_the_allowed_and_the_closest():
    with pytest.raises(
        ValueError, match=r"'mnist_subst'.*'mnist_subset', 'mnist', 'digits'"
    ) as caught:
        datasets.load("mnist_subst")
    assert "did you mean 'mnist_subset'" in str(caught.value)
    with pytest.raises(ValueError, match="split = 'training': must be one of 'train', 'test'"):
        datasets.mnist("training")


def test_load_by_every_name(monkeypatch, folder, no_download):
    monkeypatch.setenv("GFGD_DATA", str(folder))
    assert set(datasets.NAMES) == {"mnist_subset", "mnist", "digits"}
    for name in datasets.NAMES:
        dataset = datasets.load(name)
        assert dataset.name == name
        assert dataset.images.shape[1] == np.prod(dataset.image_shape)


def test_digits_are_standardised_and_need_no_file(no_download):
    images, labels = datasets.digits()
    assert images.shape == (1797, 64) and images.dtype == torch.float64
    assert (
        abs(images.mean()) < 2e-4 and abs(images.std(correction=0) - 1) < 2e-4
    )  # 4-digit constants
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_small_images_are_block_means_of_one_mean_length(monkeypatch):
    whole = datasets.Dataset("mnist", torch.rand(8, 784).double(), torch.arange(8), (28, 28))
    monkeypatch.setitem(datasets._LOADERS, "mnist", lambda: whole)
    small = datasets.small_images("mnist", 5, length=2.4)
    assert small.images.shape == (5, 49) and small.image_shape == (7, 7)
    assert torch.equal(small.labels, whole.labels[:5]) and small.classes == 10
    assert small.images.norm(dim=1).mean().item() == pytest.approx(2.4)
    means = whole.images[:5].reshape(5, 7, 4, 7, 4).mean((2, 4)).flatten(1)
    ratio = means.norm() / small.images.norm()
    torch.testing.assert_close(small.images * ratio, means)


def test_small_digits_keep_their_pixels(no_download):
    small = datasets.small_images("digits", 20, length=1.5)
    whole = datasets.digits().images[:20]
    assert small.image_shape == (8, 8)
    assert small.images.norm(dim=1).mean().item() == pytest.approx(1.5)
    torch.testing.assert_close(small.images / small.images[0, 9] * whole[0, 9], whole)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"count": 0}, "count"), ({"count": 1798}, "count = 1798"), ({"length": 0.0}, "length")],
)
def test_small_images_refuse(wrong, named, no_download):
    with pytest.raises(ValueError, match=named):
        datasets.small_images("digits", **{"count": 10, "length": 1.0, **wrong})


def test_the_readme_has_the_files_that_the_library_wants():
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    for file in (file for pair in REAL_FILES.values() for file in pair):
        size = f"{file.size:,}".replace(",", " ")
        assert f"| `{file.name}` | {size} | `{file.sha256}` |" in text


# ── whitening ────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    features=st.integers(1, 12),
    rank=st.integers(1, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_whitening_gives_an_identity_second_moment_on_the_span(count, features, rank, scale, seed):
    generator = torch.Generator().manual_seed(seed)

    def orthonormal(rows, columns):
        matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        return torch.linalg.qr(matrix).Q

    rank = min(count, features, rank)
    strengths = torch.logspace(0, -3, rank, dtype=torch.float64)
    images = scale * orthonormal(count, rank) * strengths @ orthonormal(features, rank).T
    inputs, transform = datasets.whiten(images)
    assert inputs.shape == (count, rank) and transform.shape == (features, rank)
    moment = inputs.T @ inputs / count
    torch.testing.assert_close(moment, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-9)
    # Nothing of the images is lost: they are a linear map of the whitened inputs.
    back = inputs @ torch.linalg.pinv(transform)
    torch.testing.assert_close(back, images, rtol=0, atol=1e-9 * scale)


def test_whitening_of_float32_and_of_digits():
    images, _ = datasets.digits()
    inputs, transform = datasets.whiten(images)
    again, _ = datasets.whiten(images.clone())
    assert torch.equal(inputs, again)
    assert (transform.gather(0, transform.abs().argmax(0, keepdim=True)) > 0).all()
    single, _ = datasets.whiten(images.float(), relative_tolerance=1e-2)
    moment = single.T @ single / len(single)
    assert single.dtype == torch.float32 and 0 < single.shape[1] < inputs.shape[1]
    torch.testing.assert_close(moment, torch.eye(len(moment)), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4), "not zero throughout"),
        (torch.zeros(0, 4), r"shape \(0, 4\)"),
        (torch.ones(3, 2, 2), r"shape \(3, 2, 2\)"),
        (torch.ones(3, 4, dtype=torch.uint8), "torch.uint8"),
        (torch.full((3, 4), torch.nan), "must be finite"),
    ],
)
def test_whitening_refuses(images, message):
    with pytest.raises(ValueError, match=message):
        datasets.whiten(images)
    with pytest.raises(ValueError, match="relative_tolerance = -1"):
        datasets.whiten(torch.ones(3, 4), relative_tolerance=-1)


# ── MNIST itself, where it is at hand ────────────────────────────────────────────────────────────

REAL_FOLDER = datasets.data_directory()
real = pytest.mark.skipif(
    not any((REAL_FOLDER / f"{IMAGES}{suffix}").exists() for suffix in ("", ".gz")),
    reason=f"MNIST is not in {REAL_FOLDER}; set GFGD_DATA to its folder",
)


@pytest.fixture
def real_mnist(monkeypatch, no_download):
    monkeypatch.setattr(datasets, "MNIST_FILES", REAL_FILES)
    monkeypatch.setenv("GFGD_DATA", str(REAL_FOLDER))


@real
def test_real_training_set(real_mnist):
    images, labels = datasets.mnist()
    assert images.shape == (60_000, 784) and labels.shape == (60_000,)
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert labels.bincount().tolist() == counts
    assert abs(images.mean()) < 2e-4 and abs(images.std() - 1) < 2e-4  # constants of four digits


@real
def test_real_test_set_and_subset(real_mnist):
    images, labels = datasets.mnist("test")
    assert images.shape == (10_000, 784) and labels[:5].tolist() == [7, 2, 1, 0, 4]
    subset = datasets.load("mnist_subset")
    assert subset.images.shape == (1000, 784) and subset.image_shape == (28, 28)
    assert subset.labels[:10].tolist() == [5, 3, 5, 4, 1, 3, 8, 9, 2, 1]
    assert abs(subset.images.mean()) < 0.05
    assert subset.images.min() == pytest.approx(-0.1307 / 0.3081)


@real
def test_real_file_cut_short(real_mnist, tmp_path):
    for path in REAL_FOLDER.glob("train-*"):
        shutil.copyfile(path, tmp_path / path.name)
    path = next(tmp_path.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(DatasetError, match="expected 47,040,016 bytes uncompressed"):
        datasets.mnist_subset(tmp_path)


@real
def test_real_whitening_keeps_what_varies(real_mnist):
    images = datasets.mnist_subset().images[:200]  # more features than images; many constant
    inputs, transform = datasets.whiten(images)
    assert inputs.shape == (200, 200) and transform.shape == (784, 200)
    moment = inputs.T @ inputs / len(inputs)
    torch.testing.assert_close(moment, torch.eye(200, dtype=torch.float64), rtol=0, atol=1e-9)

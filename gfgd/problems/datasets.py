"""The data of the experiments: MNIST, its subset of the paper, scikit-learn's digits, whitening.

MNIST is read from one folder, which is the argument `directory`, else ``$GFGD_DATA``, else the
folder ``data/`` of the checkout (for an installed package, the user's cache). Files which that
folder lacks are downloaded into it. Every file is verified by the SHA-256 of its uncompressed
contents each time it is read, so nothing damaged is ever computed with; a file that is there but
wrong is an error, and is never replaced behind its owner's back. `digits` needs neither a folder
nor a network.
"""

import hashlib
import math
import os
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pooch
import torch
from tqdm import tqdm

from gfgd import checks

__all__ = [
    "Dataset",
    "DatasetError",
    "NAMES",
    "TITLES",
    "load",
    "mnist",
    "mnist_subset",
    "digits",
    "small_images",
    "whiten",
    "data_directory",
    "fetch_mnist",
]

MNIST_PIXEL_MEAN, MNIST_PIXEL_STD = 0.1307, 0.3081  # of the training images, pixels in [0, 1]
DIGITS_PIXEL_MEAN, DIGITS_PIXEL_STD = 0.3053, 0.3760  # of all 1 797 images, pixels in [0, 1]


class DatasetError(OSError):
    """A dataset's file is damaged, cannot be read or written, or cannot be downloaded.

    The message names the file, says what was expected and what was found, and gives the remedy.
    """


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, one a row; unpacks as ``images, labels = dataset``.

    Attributes
    ----------
    name : str
        What figures and claims are labelled with.
    images : torch.Tensor, shape (N, H·W), float64
        Standardised pixels, rows of each image one after the other.
    labels : torch.Tensor, shape (N,), int64
        Classes, from 0 to `classes` − 1.
    image_shape : tuple of int
        (H, W), so that ``images.reshape(-1, 1, *image_shape)`` is a batch for a convolution.
    classes : int
        The number of classes.
    """

    name: str
    images: torch.Tensor = field(repr=False)
    labels: torch.Tensor = field(repr=False)
    image_shape: tuple[int, int]
    classes: int = 10

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.images, self.labels))


@dataclass(frozen=True)
class IdxFile:
    """A file of unsigned bytes in MNIST's IDX format: its name, shape and uncompressed SHA-256."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """The magic number 00 00 08 (unsigned bytes) and ndim, then each length as uint32."""
        lengths = b"".join(length.to_bytes(4, "big") for length in self.shape)
        return bytes((0, 0, 0x08, len(self.shape))) + lengths

    @property
    def size(self) -> int:
        """The number of bytes of the uncompressed file."""
        return len(self.header) + math.prod(self.shape)


# LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist: (images, labels) of each split.
MNIST_FILES = {
    "train": (
        IdxFile(
            "train-images-idx3-ubyte",
            (60_000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            (60_000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        IdxFile(
            "t10k-images-idx3-ubyte",
            (10_000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            (10_000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
DOWNLOAD_ROUNDS = 2  # how often all mirrors are tried
DOWNLOAD_PAUSE = 1.0  # seconds between two rounds
DOWNLOAD_TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds without a byte


def load(name: str) -> Dataset:
    """Return a dataset by its name, one of `NAMES`, with its default arguments.

    Raises
    ------
    ValueError
        If there is no dataset of that name.
    DatasetError
        If MNIST's files are damaged, or absent and not to be had.

    Examples
    --------
    >>> images, labels = load("digits")
    >>> images.shape, labels.shape
    (torch.Size([1797, 64]), torch.Size([1797]))
    """
    checks.one_of(NAMES, name=name)
    return _LOADERS[name]()


def mnist(split: str = "train", directory: str | os.PathLike | None = None) -> Dataset:
    """Return MNIST: handwritten digits of 28×28 pixels, 60 000 to train on and 10 000 to test.

    A pixel p in {0, …, 255} becomes (p/255 − 0.1307)/0.3081, which gives the training images
    mean 0 and variance 1 over all pixels.

    Parameters
    ----------
    split : {"train", "test"}
        Which images.
    directory : path, optional
        The folder of the files; see `data_directory` for the default. Missing files are
        downloaded into it.

    Returns
    -------
    Dataset
        `images` of shape (60000, 784) or (10000, 784), `labels` of shape (60000,) or (10000,).

    Raises
    ------
    ValueError
        If `split` is neither "train" nor "test".
    DatasetError
        If a file is damaged, or absent and not to be had.

    References
    ----------
    LeCun, Bottou, Bengio & Haffner (1998), Gradient-based learning applied to document
    recognition, Proceedings of the IEEE 86(11), 2278–2324.
    """
    checks.one_of(MNIST_FILES, split=split)
    return _mnist("mnist" if split == "train" else "mnist_test", split, slice(None), directory)


def mnist_subset(directory: str | os.PathLike | None = None) -> Dataset:
    """Return the paper's 1 000 images: every 50th of MNIST's first 50 000 training images.

    These are the images 0, 50, 100, …, 49 950, normalised as in `mnist`.

    Parameters
    ----------
    directory : path, optional
        The folder of the files; see `data_directory` for the default. Missing files are
        downloaded into it.

    Returns
    -------
    Dataset
        `images` of shape (1000, 784), `labels` of shape (1000,).

    Raises
    ------
    DatasetError
        If a file is damaged, or absent and not to be had.

    References
    ----------
    LeCun, Bottou, Bengio & Haffner (1998), Gradient-based learning applied to document
    recognition, Proceedings of the IEEE 86(11), 2278–2324.
    """
    return _mnist("mnist_subset", "train", slice(0, 50_000, 50), directory)


def digits() -> Dataset:
    """Return scikit-learn's embedded digits: 1 797 handwritten digits of 8×8 pixels.

    A pixel p in {0, …, 16} becomes (p/16 − 0.3053)/0.3760, which gives the images mean 0 and
    variance 1 over all pixels, as in `mnist`. Needs no file and no network.

    Returns
    -------
    Dataset
        `images` of shape (1797, 64), `labels` of shape (1797,).

    References
    ----------
    Alpaydin & Kaynak (1998), Optical recognition of handwritten digits, UCI Machine Learning
    Repository (its test set); `sklearn.datasets.load_digits`.

    Examples
    --------
    >>> digits()
    Dataset(name='digits', image_shape=(8, 8), classes=10)
    """
    from sklearn.datasets import load_digits  # takes a second to import; MNIST need not pay it

    pixels, labels = load_digits(return_X_y=True)
    images = (np.asarray(pixels, np.float64) / 16 - DIGITS_PIXEL_MEAN) / DIGITS_PIXEL_STD
    return Dataset(
        "digits", torch.from_numpy(images), torch.from_numpy(np.asarray(labels, np.int64)), (8, 8)
    )


def small_images(name: str, count: int, *, length: float) -> Dataset:
    """Return the first images of a dataset, made small: for networks whose Hessians are looked at.

    Images of 28×28 pixels are averaged to 7×7, those of 8×8 stay. Then all are multiplied by one
    number, such that the mean Euclidean length of an image is `length`.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    count : int
        How many images, at most as many as the dataset has.
    length : float
        The mean length of the images that are returned.

    Returns
    -------
    Dataset
        `images` of shape (count, 49) or (count, 64).

    Raises
    ------
    ValueError
        For an unknown name, a count out of range, or a length that is not positive.
    DatasetError
        As `load`.

    Examples
    --------
    >>> images, labels = small_images("digits", 100, length=2.4)
    >>> images.shape, round(images.norm(dim=1).mean().item(), 6)
    (torch.Size([100, 64]), 2.4)
    """
    checks.whole(1, count=count)
    checks.positive(length=length)
    whole = load(name)
    if count > len(whole.labels):
        raise ValueError(f"count = {count}: {name} has {len(whole.labels)} images")
    images, shape = whole.images[:count], whole.image_shape
    if shape == (28, 28):
        blocks = images.reshape(-1, 1, *shape)
        images, shape = torch.nn.functional.avg_pool2d(blocks, 4).flatten(1), (7, 7)
    images = images * (length / images.norm(dim=1).mean())
    return Dataset(whole.name, images, whole.labels[:count], shape, whole.classes)


def whiten(
    images: torch.Tensor, relative_tolerance: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return whitened inputs z = Tᵀx, whose second moment (1/N) Σ z zᵀ is the identity, and T.

    With the images as rows of X = U S Vᵀ (N×D), T = √N V_r S_r⁻¹ keeps the r directions whose
    singular value exceeds `relative_tolerance` times the largest. The moment is uncentred: no mean
    is taken off. Directions in which the images do not vary are left out rather than blown up, so
    z has r ≤ min(N, D) features and its moment is the full r×r identity, as the theory of deep
    linear networks asks for. A linear map W on z is the map W Tᵀ on x.

    T is unique up to the signs of its columns, which are chosen so that the entry of largest
    magnitude is positive, as long as the singular values are distinct.

    Parameters
    ----------
    images : torch.Tensor, shape (N, D)
        Inputs, one a row, floating point; computed in their dtype and on their device.
    relative_tolerance : float, optional
        What counts as zero among the singular values, relative to the largest; by default the
        square root of the dtype's rounding unit (1.5e-8 in float64). The moment differs from the
        identity by about rounding unit / smallest relative singular value kept.

    Returns
    -------
    inputs : torch.Tensor, shape (N, r)
        The whitened inputs X T.
    transform : torch.Tensor, shape (D, r)
        T, to whiten other images in the same way: ``others @ transform``.

    Raises
    ------
    ValueError
        If `images` is not a floating-point matrix, is empty, not finite or zero throughout; if
        `relative_tolerance` is not between 0 and 1.

    Examples
    --------
    >>> inputs, transform = whiten(digits().images)
    >>> inputs.shape  # 3 of the 64 pixels are blank throughout: together one constant direction
    torch.Size([1797, 62])
    """
    _check_inputs(images)
    if relative_tolerance is None:
        relative_tolerance = math.sqrt(torch.finfo(images.dtype).eps)
    checks.between(0, 1, relative_tolerance=relative_tolerance)
    # R of X = Q R has the singular values and right vectors of X, at D×D instead of N×D.
    _, singular_values, right = torch.linalg.svd(
        torch.linalg.qr(images, mode="r").R, full_matrices=False
    )
    kept = singular_values > relative_tolerance * singular_values.max()
    if not kept.any():
        raise ValueError(
            "images: no singular value is above relative_tolerance times the largest, so there is "
            "nothing to whiten; pass images that are not zero throughout, and a tolerance below 1"
        )
    vectors = right[kept].T
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    transform = math.sqrt(len(images)) * vectors * largest.sign() / singular_values[kept]
    return images @ transform, transform


def _check_inputs(images: torch.Tensor) -> None:
    if images.ndim != 2 or not images.numel() or not images.is_floating_point():
        raise ValueError(
            f"images of shape {tuple(images.shape)} and {images.dtype}: must be a floating-point "
            "matrix, one image a row; use .reshape(len(images), -1).to(torch.float64)"
        )
    if not images.isfinite().all():
        raise ValueError("images: must be finite, but some entry is NaN or infinite")


def data_directory(directory: str | os.PathLike | None = None) -> Path:
    """Return the folder in which MNIST is looked for, and into which it is downloaded.

    That is `directory` if given, else ``$GFGD_DATA`` if set, else ``data/`` of the checkout that
    this module lies in, else (for an installed package) the user's cache.
    """
    chosen = directory or os.environ.get("GFGD_DATA")
    if chosen:
        return Path(chosen).expanduser()
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "data").is_dir():
        return checkout / "data"
    return Path(pooch.os_cache("gfgd"))


def fetch_mnist(directory: str | os.PathLike | None = None) -> Path:
    """Make sure that MNIST's four files are there and verified; return their folder.

    Writes only what is missing: a folder that holds the four files may be read-only.

    Parameters
    ----------
    directory : path, optional
        The folder of the files; see `data_directory` for the default.

    Raises
    ------
    DatasetError
        If a file is damaged, or absent and not to be had.
    """
    folder = data_directory(directory)
    for files in MNIST_FILES.values():
        for file in files:
            _contents(file, folder)
    return folder


def _mnist(name: str, split: str, selection: slice, directory: str | os.PathLike | None) -> Dataset:
    """Return the selected images of a split, normalised."""
    folder = data_directory(directory)
    pixels, labels = (_array(file, folder)[selection] for file in MNIST_FILES[split])
    images = pixels.reshape(len(pixels), -1).astype(np.float64)
    images /= 255  # in place: all of MNIST is 376 MB in float64
    images -= MNIST_PIXEL_MEAN
    images /= MNIST_PIXEL_STD
    height, width = pixels.shape[1:]
    return Dataset(
        name,
        torch.from_numpy(images),
        torch.from_numpy(labels.astype(np.int64)),
        (height, width),
    )


def _array(file: IdxFile, folder: Path) -> np.ndarray:
    """Return a file's bytes in its shape, read-only."""
    contents = _contents(file, folder)
    return np.frombuffer(contents, np.uint8, offset=len(file.header)).reshape(file.shape)


class _DamagedError(Exception):
    """Contents are not what they should be; the message says what was expected and found."""


def _contents(file: IdxFile, folder: Path) -> bytes:
    """Return the verified contents of a file in the folder, downloading it if it is absent."""
    for path in (folder / file.name, folder / f"{file.name}.gz"):
        try:
            if os.path.lexists(path):  # a dangling link is there, too, and not ours to replace
                return _verified(path.read_bytes(), file)
        except _DamagedError as damage:
            raise DatasetError(
                f"{path} is damaged: {damage}.\n"
                "Remedy: delete this file, so that it is downloaded again, or set GFGD_DATA to a "
                "folder with good files."
            ) from None
        except OSError as error:
            raise DatasetError(
                f"{path} cannot be read: {_reason(error)}.\n"
                "Remedy: make this file readable or delete it, or set GFGD_DATA to a folder with "
                "readable files."
            ) from error
    return _download(file, folder)


def _verified(raw: bytes, file: IdxFile) -> bytes:
    """Return the uncompressed contents of a file, gzip or plain, or raise `_DamagedError`."""
    if raw[:2] == b"\x1f\x8b":
        contents = _decompressed(raw, file)
    elif raw[:3] == file.header[:3]:
        contents = raw
    else:
        found = f"{raw[:8].hex(' ')} ({raw[:8]!r})" if raw else "an empty file"
        raise _DamagedError(
            "expected gzip data (first bytes 1f 8b) or IDX data (first bytes 00 00 08), "
            f"found {found}"
        )
    magic, header = file.header[:4], file.header
    if contents[:4] != magic:
        raise _DamagedError(
            f"expected IDX magic {magic.hex(' ')}, found {contents[:4].hex(' ') or 'nothing'}"
        )
    if len(contents) >= len(header) and not contents.startswith(header):
        lengths = np.frombuffer(contents[4 : len(header)], ">u4").tolist()
        raise _DamagedError(f"expected IDX shape {file.shape}, found {tuple(lengths)}")
    if len(contents) != file.size:
        found = f"{len(contents):,}" if len(contents) < file.size else "more"
        raise _DamagedError(f"expected {file.size:,} bytes uncompressed, found {found}")
    sha256 = hashlib.sha256(contents).hexdigest()
    if sha256 != file.sha256:
        raise _DamagedError(f"expected SHA-256 {file.sha256} uncompressed, found {sha256}")
    return contents


def _decompressed(raw: bytes, file: IdxFile) -> bytes:
    """Return the uncompressed contents of gzip data, at most one byte more than there should be."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        contents = stream.decompress(raw, file.size + 1)
    except zlib.error as error:
        raise _DamagedError(f"expected intact gzip data, found corrupted data ({error})") from error
    if not stream.eof and len(contents) <= file.size:
        raise _DamagedError(
            f"expected {file.size:,} bytes uncompressed, found gzip data cut short after "
            f"{len(contents):,} ({len(raw):,} compressed)"
        )
    return contents


def _download(file: IdxFile, folder: Path) -> bytes:
    """Download a file from the first mirror that has it intact; return its verified contents.

    The download has a name of its own until it is verified: nothing damaged and nothing partial
    ever stands under the final name, and two processes at once do not meet.
    """
    partial = _writable(folder, f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    failures = []
    try:
        for attempt in range(DOWNLOAD_ROUNDS * len(MNIST_MIRRORS)):
            if attempt and attempt % len(MNIST_MIRRORS) == 0:
                time.sleep(DOWNLOAD_PAUSE)
            url = f"{MNIST_MIRRORS[attempt % len(MNIST_MIRRORS)]}{file.name}.gz"
            try:
                _retrieve(url, partial)
                contents = _verified(partial.read_bytes(), file)
                partial.replace(folder / f"{file.name}.gz")
                return contents
            except (OSError, _DamagedError) as error:
                failures.append(f"  {url}: {_reason(error)}")
    finally:
        partial.unlink(missing_ok=True)
    raise DatasetError(
        f"MNIST's {file.name}[.gz] is not in {folder}, and downloading it failed:\n"
        + "\n".join(dict.fromkeys(failures))
        + "\nRemedy: connect to the network, or set GFGD_DATA to a folder with the four files "
        + ", ".join(each.name for files in MNIST_FILES.values() for each in files)
        + " (each plain or .gz), or use the embedded digits, datasets.digits()."
    )


def _writable(folder: Path, name: str) -> Path:
    """Make the folder and an empty file of that name in it; return the file's path."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.touch(exist_ok=False)
    except OSError as error:
        reason = "it is not a folder" if folder.is_file() else _reason(error)
        raise DatasetError(
            f"MNIST is not in {folder}, and cannot be downloaded into it: {reason}.\n"
            "Remedy: set GFGD_DATA to a folder that you may write to, or to one that already has "
            "MNIST's four files."
        ) from error
    return path


def _retrieve(url: str, path: Path) -> None:
    """Download a URL to a path, with a progress bar."""
    label = url.rpartition("/")[2]
    # pooch sets the total; it takes a bar whose total is 0 for no bar.
    with tqdm(desc=label, total=1, unit="B", unit_scale=True) as progress:
        download = pooch.HTTPDownloader(
            progressbar=progress,  # pyright: ignore[reportArgumentType]  # annotated bool only
            chunk_size=2**16,
            timeout=DOWNLOAD_TIMEOUT,
        )
        download(url, str(path), None)


def _reason(error: BaseException) -> str:
    """Return the innermost cause of an error, which is where the system says what went wrong."""
    while not isinstance(error, _DamagedError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__ or error
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


_LOADERS = {"mnist_subset": mnist_subset, "mnist": mnist, "digits": digits}
NAMES = tuple(_LOADERS)

#: What a text calls the images of each, beside how many they are.
TITLES = {"mnist_subset": "MNIST", "mnist": "MNIST", "digits": "scikit-learn's digits"}

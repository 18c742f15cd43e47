import os
from pathlib import Path

import pytest

from gfgd.files import OutputError, check_output, replacing

posix = pytest.mark.skipif(os.name != "posix", reason="links, devices")


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_stays_where_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), replacing(path) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "sub" / "link.txt"
    link.parent.mkdir()
    link.symlink_to(real)
    for text in ("new", "newer"):
        with replacing(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink() and real.read_text() == text
    assert check_output(link) == real


@posix
@pytest.mark.parametrize("kind", ["device", "pipe", "link to a pipe"])
def test_only_regular_files_are_replaced(tmp_path, kind):
    if kind == "device":
        path = tmp_path / "stdout"
        path.symlink_to("/dev/null")
    else:
        os.mkfifo(tmp_path / "pipe")
        path = tmp_path / kind.split()[0]
        if kind != "pipe":
            path.symlink_to(tmp_path / "pipe")
    before = path.lstat().st_ino
    for attempt in (check_output, lambda path: replacing(path).__enter__()):
        with pytest.raises(OutputError, match="no regular file"):
            attempt(path)
    assert path.lstat().st_ino == before
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux")
def test_standard_output_is_not_replaced_where_it_is_a_regular_file(tmp_path):
    with (tmp_path / "log").open("w") as file:
        for name in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
            with pytest.raises(OutputError, match="no regular file"):
                check_output(Path(name))


def test_an_output_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"folder: is a folder; give the name of a file"):
        check_output(tmp_path / "folder")
    with pytest.raises(OutputError, match=r"cannot be written: (Not a directory|File exists)"):
        check_output(tmp_path / "file" / "a.txt")
    with pytest.raises(OutputError, match=r"cannot be written: File name too long"):
        check_output(tmp_path / ("n" * 300))

    def no_room(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", no_room)
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written: No space left on device"):
        check_output(tmp_path / "a.txt")


def test_trying_leaves_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    assert check_output(path) == path
    assert list(tmp_path.iterdir()) == [path.parent] and not list(path.parent.iterdir())


def test_a_file_that_is_read_only_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the administrator may write all
    with pytest.raises(OutputError, match="is read-only"):
        check_output(path)

"""Writing aside: whole or not at all."""

import errno
import os

import pytest

import auxzoo
from auxzoo.files import move_together, numbered_folder, read_json, sha256, write_json, written_aside


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail():
        with written_aside(path) as temporary:
            temporary.write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_nothing(tmp_path):
    def fail():
        with written_aside(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_files_move_together_or_not_at_all_where_the_disk_tells_late_that_it_is_full(tmp_path, monkeypatch, failing):
    moves, calls = {}, []
    for name in ("a", "b", "c"):
        (tmp_path / f"new_{name}").write_text("new")
        (tmp_path / name).write_text("old")
        moves[tmp_path / f"new_{name}"] = tmp_path / name

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(auxzoo.UserError, match="cannot be written: Disk quota exceeded"):
        move_together(moves)
    assert [target.read_text() for target in moves.values()] == ["old"] * 3
    monkeypatch.undo()
    move_together(moves)
    assert [target.read_text() for target in moves.values()] == ["new"] * 3
    assert len(list(tmp_path.iterdir())) == 6


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with written_aside(tmp_path / "model.weights.h5") as temporary:
        assert temporary.name.endswith(".weights.h5")
        temporary.write_text("weights")
    assert (tmp_path / "model.weights.h5").read_text() == "weights"


def test_json_and_checksum(tmp_path):
    write_json(tmp_path / "value.json", {"name": "ä"})
    assert read_json(tmp_path / "value.json") == {"name": "ä"}
    (tmp_path / "abc").write_text("abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(auxzoo.UserError, match=r"missing.json` does not exist"):
        read_json(tmp_path / "missing.json")


def test_numbered_folders_count_on(tmp_path):
    assert numbered_folder(tmp_path, "run").name == "run-001"
    for name in ("run-001", "run-007", "run-abc", "other-009"):
        (tmp_path / name).mkdir()
    assert numbered_folder(tmp_path, "run").name == "run-008"

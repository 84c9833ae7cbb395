import io

import numpy as np
import pyarrow as pa
import pytest
import torch

from confu.data.manifest import Manifest, Problem, check_manifest, read_manifest

from .stand_ins import ArrayReader, PictureReader, TextReader, png, write


def manifest(**columns):
    return Manifest("/data/clips.csv", "/data", pa.table(columns))


def check(clips, workers=2, **readers):
    return check_manifest(clips, readers, workers=workers, progress=False)


def test_sound_rows_and_missing_cells_are_no_problem():
    clips = manifest(say=["a", "", None], v=[[1.0], None, [2.0]])
    assert check(clips, text=("say", TextReader()), vector=("v", ArrayReader())) == []


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_every_broken_cell_is_listed_in_row_order(tmp_path, workers):
    rows = []
    for row in range(100):
        write(tmp_path / f"{row}.png", png(row))
        rows.append(f"{row},{row}.png,text {row}")
    write(tmp_path / "40.png", png()[:50])
    (tmp_path / "90.png").unlink()
    rows[7] = "7,../7.png,what?"
    rows[70] = '70,70.png,"  "'
    write(tmp_path / "clips.csv", "id,photo,say\n" + "\n".join(rows))
    clips = read_manifest(tmp_path / "clips.csv")
    found = check(clips, workers, text=("say", TextReader()), image=("photo", PictureReader()))
    assert [(problem.row, problem.id, problem.column) for problem in found] == [
        (7, "7", "say"), (7, "7", "photo"), (40, "40", "photo"), (70, "70", "say"), (90, "90", "photo"),
    ]  # fmt: skip
    assert found[0].what == "holds a word that is not known"
    assert found[0].source == "what?"
    assert "leaves the manifest's folder" in found[1].what
    assert found[1].source == "../7.png"
    assert found[2].source == str(tmp_path / "40.png")
    assert "empty text" in found[3].what
    assert "No such file" in found[4].what
    assert not check(clips.take([row for row in range(100) if row not in {p.row for p in found}]),
                     image=("photo", PictureReader()), text=("say", TextReader()))  # fmt: skip


def test_numbers_that_are_none_are_found():
    clips = manifest(
        v=[[1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0], [None, 1.0]], n=["1", "2", "three", "inf"]
    )
    found = check(clips, vector=("v", ArrayReader()), number=("n", ArrayReader("number")))
    assert [(problem.row, problem.column) for problem in found] == [(1, "v"), (2, "v"), (2, "n"), (3, "v"), (3, "n")]
    assert found[0].what == "holds NaN or infinity (1 of 2); repair it"
    assert found[2].what == "expected a number; got 'three'"


def test_arrays_of_another_size_than_most_are_found():
    clips = manifest(v=[[1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    found = check(clips, vector=("v", ArrayReader()))
    assert found == [Problem(0, "0", "v", "an array of shape (1,)", found[0].what)]
    assert found[0].what == "has the size 1, where most have 2; all must have one size"


def test_sequences_may_differ_in_steps_but_not_in_features():
    clips = manifest(s=[[[1.0, 2.0]], [[1.0, 2.0]] * 3, [[1.0]], [[]]])
    found = check(clips, sequence=("s", ArrayReader("sequence", stackable=False)))
    assert [problem.row for problem in found] == [2, 3]
    assert "size 1, where most have 2" in found[0].what
    assert "holds no number: its shape is (1, 0)" in found[1].what


def test_items_that_may_differ_in_length_do():
    clips = manifest(v=[[1.0], [1.0, 2.0]])
    assert check(clips, wave=("v", ArrayReader("audio", stackable=False))) == []


def test_whatever_a_decoder_raises_concerns_its_row_alone():
    class Fragile(TextReader):
        def read(self, source):
            if source == "b":
                raise KeyError("chunk")
            return source

    found = check(manifest(say=["a", "b", "c"]), text=("say", Fragile()))
    assert [(problem.row, problem.what) for problem in found] == [(1, "cannot be read (KeyError: 'chunk')")]


def test_a_package_that_is_not_installed_is_no_broken_row():
    class Lacking(TextReader):
        def read(self, source):
            raise ImportError("pip install it")

    with pytest.raises(ImportError, match="pip install it"):
        check(manifest(say=["a"]), text=("say", Lacking()))


def test_bytes_are_checked_as_files(tmp_path):
    clips = manifest(photo=[png(), b"broken", None])
    found = check(clips, image=("photo", PictureReader()))
    assert [(problem.row, problem.source) for problem in found] == [(1, "6 bytes")]


def test_an_unknown_column_or_kind_is_an_error():
    with pytest.raises(ValueError, match="did you mean 'say'"):
        check(manifest(say=["a"]), text=("sya", TextReader()))
    with pytest.raises(ValueError, match="modality 'text': kind 'sound' is not known"):
        check(manifest(say=["a"]), text=("say", ArrayReader("sound")))


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_shown_only_on_request_and_on_a_terminal(capsys, monkeypatch, terminal):
    monkeypatch.setenv("TTY_COMPATIBLE", str(int(terminal)))
    clips = manifest(say=["a"] * 40)
    check_manifest(clips, {"text": ("say", TextReader())}, progress=False)
    assert capsys.readouterr() == ("", "")
    check_manifest(clips, {"text": ("say", TextReader())}, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("checking rows" in shown.err) == terminal


def test_a_problem_says_where_and_what():
    problem = Problem(3, "cat", "photo", "a.png", "no such file")
    assert str(problem) == "row 3 (id cat), column 'photo': no such file [a.png]"
    assert str(Problem(3, "cat", "photo", "a.png", "a.png: no such file")).endswith("photo': a.png: no such file")
    assert str(Problem(-1, "", "photo", "", "is empty")) == "column 'photo': is empty"


def test_a_vector_of_a_file_is_read(tmp_path):
    class FileReader(ArrayReader):
        def read(self, source):
            return torch.from_numpy(np.load(io.BytesIO(source) if isinstance(source, bytes) else source))

    np.save(tmp_path / "a.npy", np.zeros(3, np.float32))
    np.save(tmp_path / "b.npy", np.array([0, 1, np.nan], np.float32))
    write(tmp_path / "clips.csv", "v\na.npy\nb.npy\n")
    found = check(read_manifest(tmp_path / "clips.csv"), vector=("v", FileReader()))
    assert [(problem.row, problem.source) for problem in found] == [(1, str(tmp_path / "b.npy"))]

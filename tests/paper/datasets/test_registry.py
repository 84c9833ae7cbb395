"""What `confu data list` says of each data set: missing, incomplete, damaged or found."""

import hashlib
import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from rich.console import Console

from confu_paper.datasets.registry import about_data_set, check_files, data_sets, data_sets_table

from .bird_files import write_bird_mml, write_cub200, write_ssw60, write_vb100

pytest.importorskip("av")
INFO = data_sets()


def write_av_mnist(root: Path) -> Path:
    for name in INFO["av-mnist"].files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(root / name, np.zeros((4, 3), np.uint8))
    return root


def write_affect(root: Path) -> Path:
    root.mkdir(parents=True)
    for name in ("mosi", "ur-funny", "mustard", "mosei"):
        parquet.write_table(pa.table({"id": ["1"]}), root / f"{name}.parquet")
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything there is, each in its folder."""
    data = tmp_path_factory.mktemp("data")
    write_ssw60(data / "ssw60")
    write_vb100(data / "vb100")
    write_cub200(data / "cub200")
    write_bird_mml(data / "bird-mml")
    write_av_mnist(data / "av-mnist")
    write_affect(data / "affect")
    return data


@pytest.fixture
def copied(whole, tmp_path):
    def copy(name):
        return shutil.copytree(whole / name, tmp_path / name)

    return copy


def state(name, folder, **options):
    files = check_files(INFO[name], folder, **options)
    return files.state, "\n".join(files.findings)


def test_every_data_set_of_the_paper_is_known():
    paper = {"xor", "av-mnist", "mosi", "ur-funny", "mustard", "bird-mml", "ssw60", "vb100", "cub200"}
    assert set(INFO) == paper | {"mosei"}
    for info in INFO.values():
        assert info.title and info.what and info.get
        assert set(info.checksums) <= set(info.downloads)
        for algorithm, digits in info.checksums.values():
            assert len(digits) == 2 * hashlib.new(algorithm).digest_size


@pytest.mark.parametrize("name", sorted(set(INFO) - {"xor"}))
def test_nothing_is_missing_and_everything_is_found(name, whole, tmp_path):
    assert state(name, tmp_path / "nowhere")[0] == "missing"
    (tmp_path / "empty").mkdir()
    assert state(name, tmp_path / "empty")[0] == "missing"
    assert state(name, INFO[name].folder_in(whole))[0] == "found"


def test_what_needs_no_files_is_always_there(tmp_path):
    assert state("xor", tmp_path / "nowhere") == ("found", "needs no files")


def test_the_rows_are_counted(whole):
    text = state("ssw60", whole / "ssw60")[1]
    assert "4 rows of 3 classes: 4 video files, 4 audio files" in text
    assert "4 rows of 3 classes: 4 image files" in text
    assert "Mallard: no audio" in text  # a remark, not a fault
    assert "4 rows of 3 classes: 4 image files, 3 audio files" in state("bird-mml", whole / "bird-mml")[1]


@pytest.mark.parametrize(
    ("name", "gone", "said"),
    [
        ("ssw60", "images_nabirds.csv", "no images_nabirds.csv"),
        ("ssw60", "video_ml/483326.mp4", "video_ml.csv, line 3: no file video_ml/483326.mp4"),
        ("vb100", "vb100_all_videos/Mallard/3.mp4", "no file vb100_all_videos/Mallard/3.mp4"),
        ("cub200", "CUB_200_2011/train_test_split.txt", "no train_test_split.txt"),
        ("av-mnist", "audio/test_data.npy", "no audio/test_data.npy"),
        ("bird-mml", "bird-mml.csv", "no csv with these columns"),
        ("bird-mml", "bird-mml/photos/7089.0/12.JPG", "no file bird-mml/photos/7089.0/12.JPG"),
    ],
)
def test_a_file_that_is_gone_makes_it_incomplete(name, gone, said, copied):
    root = copied(name)
    (root / gone).unlink()
    assert state(name, root)[0] == "incomplete"
    assert said in state(name, root)[1]


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("av-mnist", "audio/test_data.npy", b"\x93NUMPY\x01\x00", "test_data.npy: cannot be read"),
        ("affect/mosi", "mosi.parquet", b"PAR1 and no more", "mosi.parquet: cannot be read"),
        ("ssw60", "taxa.csv", b"label,common_name\xff\xff\n", "taxa.csv: cannot be read"),
        ("ssw60", "video_ml.csv", b"asset,label\n1,2\n", "expected the columns asset_id"),
        ("ssw60", "video_ml/483821.mp4", b"<html>not found</html>", "483821.mp4: does not begin as a .mp4 file does"),
        ("ssw60", "images_inat/73542.jpg", b"", "73542.jpg: an empty file"),
        ("vb100", "vb100_annotations_v1/test_video.txt", b"Mallard/3.mp4\n", "expected '<Species_Name>/<file>"),
        ("bird-mml", "bird-mml/photos/7089.0/12.JPG", b"GIF89a..", "12.JPG: does not begin as a .JPG file does"),
    ],
)
def test_a_file_that_cannot_be_read_makes_it_damaged(name, file, content, said, copied):
    folder, _, name = name.rpartition("/")
    root = copied(folder or name)
    (root / file).write_bytes(content)
    assert state(name, root)[0] == "damaged"
    assert said in state(name, root)[1]


def test_an_array_that_was_cut_short_is_damaged(copied):
    root = copied("av-mnist")
    content = (root / "image/train_data.npy").read_bytes()
    (root / "image/train_data.npy").write_bytes(content[:-1])
    assert state("av-mnist", root)[0] == "damaged"


def test_a_download_is_compared_with_its_checksum(tmp_path):
    with tarfile.open(tmp_path / "ssw60.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("ssw60/taxa.csv"), io.BytesIO())
    content = (tmp_path / "ssw60.tar.gz").read_bytes()
    assert state("ssw60", tmp_path)[0] == "damaged"
    assert "published is af0a54ea1a897d130d91be8ffe0de81c; fetch it again" in state("ssw60", tmp_path)[1]
    quick = state("ssw60", tmp_path, checksums=False)
    assert quick[0] == "incomplete"
    assert "not unpacked yet: tar xzf ssw60.tar.gz" in quick[1] and "checksum not computed" in quick[1]
    info = replace(INFO["ssw60"], checksums={"ssw60.tar.gz": ("md5", hashlib.md5(content).hexdigest())})
    here = check_files(info, tmp_path)
    assert here.state == "incomplete" and "ssw60.tar.gz: its md5 is the published one" in here.findings
    (tmp_path / "ssw60.tar.gz").write_bytes(b"<html>busy</html>")
    assert "does not begin as a .gz file does" in state("ssw60", tmp_path, checksums=False)[1]


def test_archives_with_a_folder_of_their_own_are_found(whole, tmp_path):
    for name, inside in (("ssw60", "ssw60"), ("av-mnist", "avmnist"), ("cub200", "CUB_200_2011")):
        shutil.copytree(whole / name, tmp_path / name / inside)
        assert state(name, tmp_path / name)[0] == "found"
        assert f"in {inside}/" in state(name, tmp_path / name)[1]


def test_a_pickle_that_was_not_converted_says_how(tmp_path):
    (tmp_path / "humor.pkl").write_bytes(b"\x80\x04.")
    assert state("ur-funny", tmp_path) == (
        "incomplete", "humor.pkl: not unpacked yet: confu data affect humor.pkl --name ur-funny"
    )  # fmt: skip
    assert state("mosi", tmp_path)[0] == "missing"


def test_not_all_that_is_gone_is_listed(copied):
    root = copied("ssw60")
    lines = "".join(f"{number},0,train\n" for number in range(20))
    (root / "audio_ml.csv").write_text("asset_id,label,split\n45516191,0,train\n" + lines)
    text = state("ssw60", root)[1]
    assert text.count("no file audio_ml/") == 5 and "and 15 more files" in text


def test_the_table_and_the_page_say_it_all(whole, tmp_path):
    console = Console(width=400, file=io.StringIO())
    console.print(data_sets_table(whole))
    text = console.file.getvalue()
    assert all(name in text for name in INFO)
    assert "missing" not in text.replace("missing file", "") and text.count("found") >= len(INFO)
    assert "not published" in text
    page = about_data_set("ssw60", tmp_path)
    assert page.startswith("SSW60\n") and "31.1 GB" in page and "md5 af0a54ea" in page and "state      missing" in page
    assert "licence    not published" in about_data_set("vb100", tmp_path)
    with pytest.raises(ValueError, match="data set 'ssw6' is not known; did you mean 'ssw60'"):
        about_data_set("ssw6", tmp_path)

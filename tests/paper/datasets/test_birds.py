"""What the bird data sets list: rows, classes and files, and what is said where a file is not there."""

import shutil

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from confu_paper.datasets.bird_mml import read_bird_mml
from confu_paper.datasets.birds import Listing
from confu_paper.datasets.cub200 import read_cub200
from confu_paper.datasets.ssw60 import read_ssw60
from confu_paper.datasets.vb100 import read_vb100

from .bird_files import SPECIES, write_bird_mml, write_cub200, write_photo, write_ssw60, write_vb100

pytest.importorskip("av")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every data set once; tests that change files copy what they need."""
    place = tmp_path_factory.mktemp("birds")
    write_ssw60(place / "ssw60")
    write_vb100(place / "vb100")
    write_cub200(place / "cub200")
    write_bird_mml(place / "bird-mml")
    return place


@pytest.fixture
def copied(whole, tmp_path):
    def copy(name):
        return shutil.copytree(whole / name, tmp_path / name)

    return copy


def test_ssw60_videos_have_a_sound_or_a_recording(whole):
    rows = read_ssw60(whole / "ssw60")
    assert rows.ids == ["483821", "483326", "476723", "476000"]
    assert rows.class_names == SPECIES
    assert rows.labels.tolist() == [0, 0, 1, 2]
    assert rows.splits == ["train", "test", "train", "test"]
    assert [path.rpartition("ssw60/")[2] for path in rows.sources["video"]][:2] == [
        "video_ml/483821.mp4",
        "video_ml/483326.mp4",
    ]
    assert rows.sources["audio"][:3] == rows.sources["video"][:3]
    assert rows.sources["audio"][3].endswith("audio_ml/476000.wav")
    assert rows.problems == []
    assert read_ssw60(whole / "ssw60", "video").ids == read_ssw60(whole / "ssw60" / "..").ids  # one folder higher


def test_ssw60_photos_and_recordings(whole):
    photos = read_ssw60(whole / "ssw60", "image")
    assert photos.ids == ["inat-73542", "inat-74099", "inat-76751", "nabirds-0233251e10054daa"]
    assert photos.splits == ["train", "validation", "test", "test"]
    sounds = read_ssw60(whole / "ssw60", "audio")
    assert sounds.labels.tolist() == [0, 1]
    assert sounds.problems == ["ssw60: Mallard: no audio"]  # a species without


@pytest.mark.usefixtures("as_users_run")
def test_ssw60_has_three_parts(whole):
    with pytest.raises(ValueError, match="part 'frames' is not known"):
        read_ssw60(whole / "ssw60", "frames")  # pyright: ignore


def test_ssw60_labels_are_looked_up_never_taken_as_an_index(copied):
    root = copied("ssw60")
    taxa = (root / "taxa.csv").read_text().replace("\n2,code2", "\n90,code2")
    (root / "taxa.csv").write_text(taxa)
    clips = (root / "video_ml.csv").read_text().replace("476000,2,", "476000,90,").replace("476723,1,", "476723,88,")
    (root / "video_ml.csv").write_text(clips)
    rows = read_ssw60(root)
    assert rows.labels.tolist() == [0, 0, 2]
    assert rows.class_names[2] == "Mallard"
    assert "video_ml.csv, line 4: label '88' is not in taxa.csv" in rows.problems[0]


def test_a_file_that_is_gone_is_named_and_its_row_left_out(copied):
    root = copied("ssw60")
    (root / "video_ml/476723.mp4").unlink()
    rows = read_ssw60(root)
    assert rows.ids == ["483821", "483326", "476000"]
    assert rows.problems == [
        "video_ml.csv, line 4: no file video_ml/476723.mp4; the row is left out",
        "ssw60: Wood Duck: no video",
        "ssw60: Wood Duck: no audio",
    ]
    shutil.rmtree(root / "video_ml")
    with pytest.raises(ValueError, match=r"ssw60: not one of the listed files is there .*483821"):
        read_ssw60(root)


def test_ssw60_without_its_lists_says_what_to_do(copied, tmp_path):
    root = copied("ssw60")
    (root / "video_ml.csv").write_text("asset_id,label\n483821,0\n")
    with pytest.raises(ValueError, match=r"video_ml\.csv: expected the columns asset_id, label, split; split is not"):
        read_ssw60(root)
    (root / "video_ml.csv").write_text("asset_id,label,split\n483821,0,train\n")
    (root / "taxa.csv").unlink()
    with pytest.raises(ValueError, match=r"taxa\.csv: no such file; unpack"):
        read_ssw60(root)
    (root / "taxa.csv").write_text("label,common_name\n0,Canada Goose\n0,Wood Duck\n")
    with pytest.raises(ValueError, match=r"taxa\.csv, line 3: expected a label of its own"):
        read_ssw60(root)
    (root / "taxa.csv").write_bytes(b"label,common_name\n0,\xff\xfe\n")
    with pytest.raises(ValueError, match=r"taxa\.csv: not readable as csv in UTF-8"):
        read_ssw60(root)
    with pytest.raises(ValueError, match=r"nothing: no such folder; give the folder of SSW60"):
        read_ssw60(tmp_path / "nothing")
    (root / "video_ml.csv").unlink()
    with pytest.raises(ValueError, match=r"ssw60: no video_ml\.csv in it; give the folder of SSW60"):
        read_ssw60(root)


def test_vb100_classes_are_folders_in_the_order_of_their_numbers(whole):
    rows = read_vb100(whole / "vb100")
    assert rows.class_names == ("Wood Duck", "Acorn Woodpecker", "Mallard")  # 0, 2, 3
    assert rows.ids == ["Wood_Duck/a b.mp4", "Acorn_Woodpecker/1.mp4", "Wood_Duck/2.mp4", "Mallard/3.mp4"]
    assert rows.labels.tolist() == [0, 1, 0, 2]
    assert rows.splits == ["train", "train", "test", "test"]
    assert rows.sources["audio"] == rows.sources["video"]
    assert rows.problems == []


def test_vb100_lists_that_contradict_themselves_are_reported(copied):
    root = copied("vb100")
    with (root / "vb100_annotations_v1/test_video.txt").open("a") as file:
        file.write("Wood_Duck/a b.mp4 0\n\nWood_Duck/9.mp4 7\n")
    rows = read_vb100(root)
    assert len(rows) == 4
    assert rows.class_names == ("Wood Duck", "Acorn Woodpecker", "Mallard")
    text = "\n".join(rows.problems)
    assert "test_video.txt, line 3: Wood_Duck/a b.mp4 stands in train_video.txt, line 1 already" in text
    assert "test_video.txt, line 5: Wood Duck has the label 7 here, 0 before" in text
    assert "test_video.txt, line 5: no file vb100_all_videos/Wood_Duck/9.mp4" in text
    (root / "vb100_annotations_v1/test_video.txt").write_text("Wood_Duck/2.mp4\n")
    with pytest.raises(ValueError, match=r"test_video\.txt: line 1: expected '<Species_Name>/<file> <whole number>'"):
        read_vb100(root)
    (root / "vb100_annotations_v1/test_video.txt").unlink()
    with pytest.raises(ValueError, match=r"test_video\.txt: no such file"):
        read_vb100(root)


def test_cub_names_and_splits(whole, copied):
    rows = read_cub200(whole / "cub200")
    assert rows.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert rows.labels.tolist() == [0, 0, 1, 1]
    assert rows.splits == ["train", "test", "test", "train"]
    assert read_cub200(whole / "cub200" / "CUB_200_2011").ids == rows.ids
    root = copied("cub200")
    (root / "CUB_200_2011/images" / rows.ids[1]).unlink()
    assert "images.txt, image 2: no file images/001.Black_footed" in read_cub200(root).problems[0]
    (root / "CUB_200_2011/images.txt").unlink()
    bare = read_cub200(root)
    assert bare.ids == [rows.ids[0], *rows.ids[2:]]
    assert bare.splits == ["", "", ""]
    with pytest.raises(ValueError, match="no images in it; give the folder of CUB-200-2011"):
        read_cub200(whole / "vb100")


def test_bird_mml_as_released(whole):
    rows = read_bird_mml(whole / "bird-mml")
    # sorted by scientific names: Branta, Haematopus, Thalasseus; capitals differ between the lists
    assert rows.class_names == ("Canada Goose", "Black Oystercatcher", "Elegant Tern")
    assert rows.labels.tolist() == [2, 0, 0, 1]
    assert len(set(rows.ids)) == 4
    assert rows.sources["text"][1] == 'A goose "honks", near water.'
    assert rows.sources["audio"][1] == rows.sources["audio"][2]  # a clip that is used again
    assert set(rows.splits) == {"train"}
    assert rows.problems == []
    assert read_bird_mml(whole / "bird-mml/bird-mml.csv").ids == rows.ids


def test_paths_of_another_machine_are_found_by_suffix(tmp_path):
    root = write_bird_mml(tmp_path / "bird-mml", prefix="/home/someone/data/")
    rows = read_bird_mml(root)
    assert len(rows) == 4 and rows.problems == []
    moved = tmp_path / "moved"  # without the folder bird-mml, as an archive may be unpacked
    shutil.move(root / "bird-mml/photos", moved / "photos")
    shutil.move(root / "bird-mml/audio", moved / "audio")
    for name in ("bird-mml.csv", "taxa_ssw60_vb100_all.csv"):
        shutil.copy(root / name, moved / name)
    assert read_bird_mml(moved).problems == []
    lines = (root / "bird-mml.csv").read_text().replace("/home/someone/data/bird-mml", str(moved))
    (tmp_path / "absolute.csv").write_text(lines)
    assert len(read_bird_mml(tmp_path / "absolute.csv", root / "taxa_ssw60_vb100_all.csv")) == 4


def test_bird_mml_says_what_is_missing(copied):
    root = copied("bird-mml")
    (root / "bird-mml/photos/144542.0/11.JPG").unlink()
    (root / "bird-mml/photos/7089.0/12.JPG").unlink()
    (root / "bird-mml/audio/Branta_canadensis/Canada_Goose_456_clip0.wav").unlink()
    (root / "taxa_ssw60_vb100_all.csv").write_text("scientific_name,common_name\nBranta canadensis,Canada Goose\n")
    text = (root / "bird-mml.csv").read_text().replace(',"A brown goose."', ",")
    (root / "bird-mml.csv").write_text(text)
    rows = read_bird_mml(root)
    assert rows.class_names == ("Canada Goose", "Haematopus bachmani", "Thalasseus elegans")
    assert [source is not None for source in rows.sources["image"]] == [False, True, True]
    assert [source is not None for source in rows.sources["audio"]] == [True, False, True]
    assert [source is not None for source in rows.sources["text"]] == [True, False, True]
    text = "\n".join(rows.problems)
    assert "bird-mml.csv, line 2, photo_file: no file bird-mml/photos/144542.0/11.JPG" in text
    assert "bird-mml.csv, line 3, audio_file: no file" in text  # and no photo: the row is not among them
    assert "bird-mml.csv, line 4: no combined_caption" in text
    assert "bird-mml.csv: Thalasseus elegans: no image" in text  # a species without images
    assert "bird-mml.csv: Canada Goose: no audio" in text
    assert "taxa_ssw60_vb100_all.csv: Haematopus bachmani: no common name" in text


def test_bird_mml_as_our_pipeline_writes_it(copied):
    root = copied("bird-mml")
    released = read_bird_mml(root)
    columns = {
        "id": ["a", "b", "c", "d"],
        "scientific_name": ["Tyto alba", "Asio otus", "Asio otus", "Turdus merula"],
        "common_name": ["Owl", "Owl", "Owl", None],
        "label": ["Owl (Tyto alba)", "Owl (Asio otus)", "Owl (Asio otus)", "Turdus merula"],
        "photo_file": [path.rpartition("bird-mml/bird-mml/")[2] for path in released.sources["image"]],
        "audio_file": [path.rpartition("bird-mml/bird-mml/")[2] for path in released.sources["audio"]],
        "combined_caption": ["one", "two", "three", "four"],
    }
    parquet.write_table(pa.table(columns), root / "bird-mml/manifest.parquet")
    rows = read_bird_mml(root / "bird-mml")
    assert rows.ids == ["a", "b", "c", "d"]
    assert rows.class_names == ("Owl (Asio otus)", "Turdus merula", "Owl (Tyto alba)")
    assert rows.labels.tolist() == [2, 0, 0, 1]
    assert rows.problems == ["no taxa.csv: Turdus merula: no common name; the class is called by its scientific one"]
    parquet.write_table(pa.table({"id": ["a"]}), root / "bird-mml/manifest.parquet")
    with pytest.raises(ValueError, match=r"manifest\.parquet: expected the columns scientific_name"):
        read_bird_mml(root / "bird-mml")
    (root / "bird-mml/manifest.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"manifest\.parquet: not readable as Parquet"):
        read_bird_mml(root / "bird-mml")


def test_bird_mml_asks_for_the_csv_where_it_cannot_tell(copied, tmp_path):
    root = copied("bird-mml")
    shutil.copy(root / "bird-mml.csv", root / "other.csv")
    with pytest.raises(ValueError, match=r"expected one csv with .*; got bird-mml\.csv, other\.csv\. Give the csv"):
        read_bird_mml(root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"got no manifest\.parquet, no csv with these columns"):
        read_bird_mml(tmp_path / "empty")
    with pytest.raises(ValueError, match="no such file or folder"):
        read_bird_mml(tmp_path / "nothing")


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    write_photo(tmp_path / "a/1.jpg")
    there = Listing()
    assert tmp_path / "a/1.jpg" in there
    monkeypatch.setattr("os.scandir", lambda folder: pytest.fail(f"{folder} listed again"))
    assert tmp_path / "a/2.jpg" not in there
    assert str(tmp_path / "a/1.jpg") in there


def test_rows_are_selected_with_all_that_is_theirs(whole):
    rows = read_ssw60(whole / "ssw60")
    chosen = rows.select((-rows.labels).argsort(kind="stable").tolist())
    assert chosen.ids == ["476000", "476723", "483821", "483326"]
    assert chosen.labels.tolist() == [2, 1, 0, 0]
    assert chosen.sources["video"][0] == rows.sources["video"][3]
    assert chosen.splits == ["test", "train", "train", "test"]

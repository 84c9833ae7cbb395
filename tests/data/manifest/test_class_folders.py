import pytest

from confu.data.manifest import read_manifest

from .stand_ins import write


def rows(folder):
    return read_manifest(folder).table.to_pylist()


def test_a_row_a_file_with_its_folder_as_label(tmp_path):
    for name in ("cat/b.png", "cat/a.JPG", "dog/deep/c.png", "dog/README.md", "cat/.hidden.png"):
        write(tmp_path / name)
    assert rows(tmp_path) == [
        {"id": "cat/a.JPG", "image": "cat/a.JPG", "label": "cat"},
        {"id": "cat/b.png", "image": "cat/b.png", "label": "cat"},
        {"id": "dog/deep/c.png", "image": "dog/deep/c.png", "label": "dog"},
    ]


def test_top_folders_named_for_splits_are_splits(tmp_path):
    for name in ("train/cat/1.png", "val/cat/2.png", "test/dog/3.png"):
        write(tmp_path / name)
    clips = read_manifest(tmp_path)
    assert sorted(zip(clips.splits, clips.labels)) == [("test", "dog"), ("train", "cat"), ("validation", "cat")]


@pytest.mark.parametrize("names", [("train/1.png", "test/2.png"), ("train/a/1.png", "plane/b/2.png")])
def test_classes_may_be_named_train_or_test(tmp_path, names):
    for name in names:
        write(tmp_path / name)
    assert read_manifest(tmp_path).splits is None
    assert set(read_manifest(tmp_path).labels) == {name.split("/")[0] for name in names}


def test_files_of_several_kinds_make_one_row(tmp_path):
    for name in ("cat/1.png", "cat/1.wav", "cat/2.wav", "cat/2.mp4"):
        write(tmp_path / name)
    assert rows(tmp_path) == [
        {"id": "cat/1", "image": "cat/1.png", "label": "cat", "audio": "cat/1.wav", "video": None},
        {"id": "cat/2", "image": None, "label": "cat", "audio": "cat/2.wav", "video": "cat/2.mp4"},
    ]


def test_two_of_a_kind_in_one_row_are_refused(tmp_path):
    for name in ("cat/1.png", "cat/1.jpg", "cat/1.wav"):
        write(tmp_path / name)
    with pytest.raises(ValueError, match=r"cat/1.jpg and cat/1.png would be the image of one row.*rename"):
        read_manifest(tmp_path)


def test_a_file_in_no_class_folder_is_refused(tmp_path):
    write(tmp_path / "cat/1.png")
    write(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"2.png lies in no class folder; move it to <class>/2.png"):
        read_manifest(tmp_path)


def test_links_do_not_run_in_circles_and_may_not_lead_outside(tmp_path):
    write(tmp_path / "data" / "cat" / "1.png")
    (tmp_path / "data" / "cat" / "up").symlink_to(tmp_path / "data")
    assert read_manifest(tmp_path / "data").ids == ["cat/1.png"]
    write(tmp_path / "other" / "2.png")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "other")
    clips = read_manifest(tmp_path / "data")
    assert clips.ids == ["cat/1.png", "dog/2.png"]
    with pytest.raises(ValueError, match=r"row 1 .*it is a link to"):
        clips.sources("image", "image")

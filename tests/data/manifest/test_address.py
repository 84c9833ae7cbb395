import pytest

from confu.data.manifest import read_manifest
from confu.data.manifest.address import FileResolver, full_address, joined, parent_of


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../secret.png", "above it"),
        ("photos/../../secret.png", "above it"),
        ("/etc/hostname", "absolute"),
        ("file:///etc/hostname", "a file system of its own"),
        ("s3://bucket/a.png", "a file system of its own"),
        ("simplecache::memory://a.png", "a file system of its own"),
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path, why, remote):
    base = "memory://data" if remote else str(tmp_path)
    with pytest.raises(ValueError, match=f"leaves the manifest's folder {base}: .*{why}.*give allow_outside=True"):
        FileResolver(base)(path)
    FileResolver(base, allow_outside=True)(path)


def test_absolute_paths_and_those_from_home_are_followed_inside(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    resolve = FileResolver(str(tmp_path / "data"))
    for path in (str(tmp_path / "data" / "a.png"), "~/data/a.png", "~/data/x/../a.png"):
        assert resolve(path) == str(tmp_path / "data" / "a.png")
    for path in ("~/a.png", str(tmp_path / "data" / ".." / "a.png"), str(tmp_path / "data" / "link" / "a.png")):
        with pytest.raises(ValueError, match=r"it is absolute.*--allow-outside"):
            resolve(path)
    # The folder of a link's ".." is not the one that its text says: what is checked is what is opened.
    assert resolve(f"{tmp_path}/data/link/../a.png") == str(tmp_path / "data" / "a.png")
    assert full_address("~/data") == str(tmp_path / "data")


def test_a_web_servers_escaped_dots_are_refused():
    with pytest.raises(ValueError, match="above it"):
        FileResolver("https://host/data")("%2e%2e/secret.png")


def test_a_zero_byte_is_refused(tmp_path):
    with pytest.raises(ValueError, match="zero byte"):
        FileResolver(str(tmp_path), allow_outside=True)("a\0.png")


def test_links_may_not_lead_outside(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "a.png").touch()
    (inside / "b.png").touch()
    (inside / "file.png").symlink_to(outside / "a.png")
    (inside / "folder").symlink_to(outside)
    (inside / "fine.png").symlink_to(inside / "b.png")
    resolve = FileResolver(str(inside))
    for path in ("file.png", "folder/a.png"):
        with pytest.raises(ValueError, match=r"it is a link to .*outside"):
            resolve(path)
        assert FileResolver(str(inside), allow_outside=True)(path) == str(inside / path)
    assert resolve("fine.png") == str(inside / "fine.png")


def test_a_base_that_is_itself_behind_a_link_holds_its_files(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert FileResolver(str(tmp_path / "link"))("a.png") == str(tmp_path / "link" / "a.png")


def test_dots_within_the_folder_are_followed(tmp_path):
    assert FileResolver(str(tmp_path))("./a/../b.png") == str(tmp_path / "b.png")


def test_names_that_begin_with_dots_are_names(tmp_path):
    assert FileResolver(str(tmp_path))("..a.png") == str(tmp_path / "..a.png")


def test_local_addresses_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in ("a.csv", "./a.csv", tmp_path / "a.csv", f"file://{tmp_path}/a.csv"):
        assert full_address(given) == str(tmp_path / "a.csv")


@pytest.mark.parametrize("address", ["memory://data/a.csv", "/data/a.csv", "zip://in/a.csv::/data/all.zip"])
def test_joining_undoes_the_parent(address):
    name = "a.csv"
    assert joined(parent_of(address), name) == address


def test_double_colons_are_a_name_on_this_machine(tmp_path):
    """Of a remote folder fsspec would open what follows them, which may be any file."""
    folder = tmp_path / "a::b"
    folder.mkdir()
    (folder / "clips.csv").write_text("photo,say\n1::2.png,a cat\n")
    manifest = read_manifest(folder / "clips.csv")
    assert manifest.sources("photo", "image") == [str(folder / "1::2.png")]
    with pytest.raises(ValueError, match="a file system of its own"):
        FileResolver("memory://data")("a::/etc/hostname")


def test_separators_of_windows_are_those_of_this_system(tmp_path):
    resolve = FileResolver(str(tmp_path))
    assert resolve(r"photos\a.png") == str(tmp_path / "photos" / "a.png")
    assert FileResolver("memory://data")(r"photos\a.png") == "memory://data/photos/a.png"
    (tmp_path / r"odd\name.png").touch()
    assert resolve(r"odd\name.png") == str(tmp_path / r"odd\name.png")
    for path, why in ((r"..\a.png", "goes above it"), (r"C:\data\a.png", "a path of Windows, with a drive")):
        with pytest.raises(ValueError, match=why):
            resolve(path)

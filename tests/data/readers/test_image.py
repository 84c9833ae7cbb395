from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from confu.data.readers import ImageReader
from confu.data.readers.source import remarks

from .fixtures import blocks, image_bytes

COLOURS = blocks()


def centre(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def as_item(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture if picture.ndim == 3 else picture[..., None]).permute(2, 0, 1)


def test_every_source_of_a_picture_gives_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(image_bytes(COLOURS))
    sources = [
        str(tmp_path / "a.png"), tmp_path / "a.png", f"file://{tmp_path / 'a.png'}", image_bytes(COLOURS),
        image_bytes(COLOURS, "BMP"), COLOURS, Image.fromarray(COLOURS), as_item(COLOURS), torch.from_numpy(COLOURS),
        COLOURS.transpose(2, 0, 1),
    ]  # fmt: skip
    reader = ImageReader(24)
    expected = reader.read(COLOURS)
    assert expected.shape == (3, 24, 24)
    for source in sources:
        assert torch.equal(reader.read(source), expected)


def test_a_picture_of_the_size_itself_is_only_cut():
    square = blocks(40, 40)
    assert torch.equal(ImageReader(40).read(square), as_item(square))
    assert torch.equal(ImageReader(64).read(COLOURS), as_item(centre(COLOURS)))


def test_a_larger_shorter_side_leaves_a_margin():
    square = blocks(40, 40)
    assert torch.equal(ImageReader(32, shorter=40).read(square), as_item(square[4:36, 4:36]))


def test_a_picture_is_scaled_by_averaging():
    """Half the size: the triangle filter weighs four pixels each way by 1, 3, 3, 1."""
    grey = blocks(16, 16)[..., 0].astype(float)
    weights = np.array([1, 3, 3, 1]) / 8
    expected = np.zeros((8, 8))
    for row in range(1, 7):
        for column in range(1, 7):
            window = grey[2 * row - 1 : 2 * row + 3, 2 * column - 1 : 2 * column + 3]
            expected[row, column] = weights @ window @ weights
    item = ImageReader(8, channels=1).read(grey.astype(np.uint8))[0].numpy()
    assert np.abs(item - expected)[1:7, 1:7].max() <= 1


def test_stretch_keeps_what_crop_cuts():
    wide = np.zeros((10, 40), np.uint8)
    wide[:, :10] = 255
    assert ImageReader(8, channels=1).read(wide).max() == 0
    stretched = ImageReader(8, channels=1, resize="stretch").read(wide)
    assert stretched[0, :, 0].min() == 255
    assert stretched[0, :, 3:].max() == 0


def test_a_thin_strip_never_becomes_a_huge_picture():
    assert ImageReader(224).read(np.zeros((2, 60_000), np.uint8)).shape == (3, 224, 224)


def test_collate_is_the_formula():
    reader = ImageReader(4, mean=[0.1, 0.2, 0.3], std=[0.5, 1.0, 2.0])
    item = reader.read(blocks(4, 4))
    values = reader.collate([item])[0]
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1.0), (0.3, 2.0)]):
        expected = (item[channel].double() / 255 - mean) / std
        assert (values[channel] - expected).abs().max() < 1e-6
    assert values.dtype == torch.float32


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, -1), (8, 1)])
def test_the_rotation_of_a_camera_is_applied(orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for form in ("PNG", "TIFF"):
        turned = ImageReader(64).read(image_bytes(COLOURS, form, exif=exif))
        assert torch.equal(turned, as_item(np.rot90(centre(COLOURS), turn).copy()))


def test_exif_that_cannot_be_read_says_nothing():
    broken = image_bytes(COLOURS, "PNG", exif=b"Exif\0\0 no TIFF at all")
    assert torch.equal(ImageReader(64).read(broken), as_item(centre(COLOURS)))


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    animated = image_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(BytesIO(animated)).n_frames == 2
    assert ImageReader(8).read(animated).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_every_mode_are_read(mode, channels):
    white = Image.new("L", (9, 9), 255).convert(mode) if mode != "I;16" else Image.new(mode, (9, 9), 65535)
    file = image_bytes(white, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    item = ImageReader(9, channels=channels).read(file)
    assert item.shape == (channels, 9, 9)
    assert item.min() >= 254


def test_16_bits_are_scaled_not_clipped():
    deep = np.array([[0, 257 * 100, 65535]], np.uint16)
    item = ImageReader(3, channels=1, resize="stretch", interpolation="nearest").read(
        image_bytes(Image.fromarray(deep))
    )
    assert item[0, 0].tolist() == [0, 100, 255]


def test_a_large_photo_is_decoded_smaller_and_looks_the_same():
    random = np.random.default_rng(0)
    smooth = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((1600, 1200), 3)
    reader = ImageReader(64)
    difference = reader.read(image_bytes(smooth, "JPEG", quality=95)).int() - reader.read(smooth).int()
    assert difference.abs().float().mean() < 1.5


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_file_cut_short_is_named(tmp_path, form, share):
    content = image_bytes(COLOURS, form)
    path = tmp_path / "photo.bin"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"photo\.bin: (damaged|not an image)"):
        ImageReader(8).read(path)


def test_damaged_pixels_are_named():
    content = bytearray(image_bytes(COLOURS))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(ValueError, match="damaged or cut short"):
        ImageReader(8).read(bytes(content))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [4000, 1000])  # Pillow itself warns of more, and stops at twice as many
def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for source in (image_bytes(COLOURS), Image.fromarray(COLOURS)):
        with pytest.raises(ValueError, match=r"96 x 64 pixels are more than|6144 pixels\) exceeds limit"):
            ImageReader(8).read(source)


def test_a_format_that_starts_programs_is_refused():
    with pytest.raises(ValueError, match="not an image of a known format"):
        ImageReader(8).read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.full((4, 4), -0.5), "expected pixels from 0 to 255, or floats from 0 to 1; got float64 from -0.5 to -0.5"),
        (np.full((4, 4), np.nan), "expected pixels from 0 to 255"),
        (np.full((4, 4), 256), "expected pixels from 0 to 255"),
        (np.zeros((5, 5, 5), np.uint8), "expected 1, 3 or 4 channels first or last"),
        (np.zeros((4,), np.uint8), r"expected \(height, width\)"),
        (np.zeros((0, 4), np.uint8), r"expected \(height, width\)"),
        (Image.new("F", (4, 4)), "pixels of 32 bits"),
        (Image.new("L", (0, 4)), "has no pixels"),
        (17, "17: expected an image's file"),
    ],
)
def test_pictures_that_cannot_be_used_are_named(source, message):
    with pytest.raises(ValueError, match=message):
        ImageReader(8).read(source)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size: expected 1 pixel"),
        ({"size": 4, "channels": 2}, "channels: expected 3"),
        ({"size": 4, "resize": "pad"}, "resize: expected 'crop' or 'stretch'"),
        ({"size": 4, "shorter": 3}, "shorter: goes with"),
        ({"size": 4, "resize": "stretch", "shorter": 5}, "shorter: goes with"),
        ({"size": 4, "mean": [0.1, 0.2]}, "mean: expected a number, or one for each of 3"),
        ({"size": 4, "std": 0.0}, "std: expected positive"),
        ({"size": 4, "interpolation": "box"}, "interpolation: expected one of"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageReader(**settings)


def read_with_remarks(source, size=32):
    with remarks() as texts:
        return ImageReader(size).read(source), texts


@pytest.mark.parametrize(("colour", "ground"), [(0, 255), (40, 255), (255, 0)])
def test_a_logo_of_one_colour_is_seen(colour, ground):
    """Its shape is in its transparency alone; what is stored under that is of the same colour, or nearly."""
    logo = np.full((32, 32, 4), colour, np.uint8)
    logo[..., 3] = 0
    logo[8:24, 8:24, 3] = 255
    item, texts = read_with_remarks(image_bytes(logo))
    assert (item[:, 8:24, 8:24] == colour).all() and (item[:, :8] == ground).all()
    assert texts == ["is of one colour and partly transparent: seen on white, or on black if it is light"]
    grey = Image.fromarray(logo).convert("LA")
    assert torch.equal(read_with_remarks(grey)[0], item)


def test_what_is_under_transparency_stays_where_it_shows():
    pixels = np.dstack([centre(COLOURS), np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))])
    item, texts = read_with_remarks(image_bytes(pixels), 64)
    assert torch.equal(item, as_item(pixels[..., :3])) and not texts


def test_12_bits_stored_in_16_are_not_nearly_black():
    deep = np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16)
    for source in (image_bytes(Image.fromarray(deep)), image_bytes(Image.fromarray(deep), "TIFF"), deep):
        item, texts = read_with_remarks(source)
        assert (item[0].numpy() - np.round(deep / 4095 * 255)).max() == 0
        assert texts == ["has 16 bits a pixel and none above 4095: read as 12 bits"]
    assert not read_with_remarks(image_bytes(Image.fromarray(deep * np.uint16(16))))[1]


@pytest.mark.parametrize("level", [0, 7, 255])
def test_a_picture_that_shows_nothing_is_remarked(level):
    flat = np.full((32, 32), level, np.uint8)
    assert read_with_remarks(flat)[1] == ["shows nothing: its pixels are all nearly alike as the model gets them"]
    flat[:16] = level + 9 if level < 9 else level - 9
    assert not read_with_remarks(flat)[1]

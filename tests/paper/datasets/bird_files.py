"""Bird data sets of a few tiny files, laid out as they are published."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE = 8000
STEP = 10  # grey levels between frames: far more than a codec loses
SPECIES = ("Canada Goose", "Wood Duck", "Mallard")


def write_video(path: Path, frames: int = 10, hz: float | None = 440, seconds: float = 1.0, codec: str = "aac") -> Path:
    """A video whose frame i is grey of level 40 + 10 i, with a tone unless hz is None."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        sound = None if hz is None else container.add_stream(codec, rate=RATE, layout="mono")
        for number in range(frames):
            level = np.full((32, 32, 3), 40 + STEP * number, np.uint8)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        container.mux(picture.encode())
        if sound is not None:
            wave = tone(hz or 0, seconds).astype(np.float32)
            form = "fltp" if codec == "aac" else "s16"
            samples = wave if form == "fltp" else (wave * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format=form, layout="mono")
            frame.sample_rate = RATE
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


def tone(hz: float, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def write_sound(path: Path, hz: float = 440, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(hz, seconds), RATE)
    return path


def write_photo(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (level, level, level)).save(path)
    return path


def write_ssw60(root: Path) -> Path:
    """Four clips (one silent, one with a recording of its own), four photos and two recordings of three species."""
    root.mkdir(parents=True)
    taxa = ["label,species_code,common_name,scientific_name,family"]
    taxa += [f'{label},code{label},{name},Genus {label},"A (B, C)"' for label, name in enumerate(SPECIES)]
    (root / "taxa.csv").write_text("\n".join(taxa) + "\n")
    clips = [(483821, 0, "train"), (483326, 0, "test"), (476723, 1, "train"), (476000, 2, "test")]
    lines = [",asset_id,label,split,fps,reliable_audio"]  # written with pandas' index
    lines += [f"{row},{asset},{label},{split},25,1" for row, (asset, label, split) in enumerate(clips)]
    (root / "video_ml.csv").write_text("\n".join(lines) + "\n")
    write_video(root / "video_ml/483821.mp4", hz=400)
    write_video(root / "video_ml/483326.mp4", frames=3, hz=None)
    write_video(root / "video_ml/476723.mp4", frames=20, hz=800)
    write_video(root / "video_ml/476000.mp4", hz=1000)
    write_sound(root / "audio_ml/476000.wav", hz=2000)
    (root / "audio_ml.csv").write_text("asset_id,label,split\n45516191,0,train\n476000,1,test\n")
    write_sound(root / "audio_ml/45516191.wav")
    (root / "images_inat.csv").write_text("asset_id,label,split\n73542,0,train\n74099,1,val\n76751,2,test\n")
    (root / "images_nabirds.csv").write_text("asset_id,label,split\n0233251e10054daa,0,test\n")
    for name in ("images_inat/73542", "images_inat/74099", "images_inat/76751", "images_nabirds/0233251e10054daa"):
        write_photo(root / f"{name}.jpg")
    return root


def write_vb100(root: Path) -> Path:
    """Four clips of three species; the labels skip 1 and do not follow the alphabet."""
    clips = {
        "train": [("Wood_Duck/a b.mp4", 0), ("Acorn_Woodpecker/1.mp4", 2)],
        "test": [("Wood_Duck/2.mp4", 0), ("Mallard/3.mp4", 3)],
    }
    for split, listed in clips.items():
        file = root / f"vb100_annotations_v1/{split}_video.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{path} {label}\n" for path, label in listed))
        for number, (path, _) in enumerate(listed):
            write_video(root / "vb100_all_videos" / path, hz=300 * (number + 1))
    return root


def write_cub200(root: Path, lists: bool = True) -> Path:
    """Four photos of two species."""
    folder = root / "CUB_200_2011"
    photos = [
        "001.Black_footed_Albatross/Black_Footed_Albatross_0001_1.jpg",
        "001.Black_footed_Albatross/Black_Footed_Albatross_0002_2.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0001_3.jpg",
        "002.Laysan_Albatross/Laysan_Albatross_0002_4.jpg",
    ]
    for number, photo in enumerate(photos):
        write_photo(folder / "images" / photo, 50 * number)
    if lists:
        (folder / "images.txt").write_text("".join(f"{n} {photo}\n" for n, photo in enumerate(photos, start=1)))
        (folder / "train_test_split.txt").write_text("1 1\n2 0\n3 0\n4 1\n")
    return root


TAXA = """label,species_code,inat_taxon_id,common_name,scientific_name,wikipedia_id
0,cangoo,7089,Canada Goose,Branta canadensis,Canada goose
87,,6316,Black Oystercatcher,Haematopus Bachmani,Black oystercatcher
89,,,Elegant Tern,Thalasseus elegans,Elegant Tern
"""


def write_bird_mml(root: Path, prefix: str = "") -> Path:
    """Four triplets of two species, with paths that begin as in the release; the taxa's labels skip 88."""
    root.mkdir(parents=True)
    rows = [
        ("Thalasseus elegans", "Elegant_Tern_123_clip0", "144542.0/11.JPG", "A white tern, calling."),
        ("Branta canadensis", "Canada_Goose_456_clip0", "7089.0/12.JPG", 'A goose "honks", near water.'),
        ("Branta canadensis", "Canada_Goose_456_clip0", "7089.0/13.JPG", "A brown goose."),
        ("Haematopus bachmani", "Black_Oystercatcher_9_clip3", "4838.0/14.JPG", "A black bird."),
    ]
    lines = ["scientific_name,audio_file,photo_file,combined_caption"]
    for number, (name, clip, photo, caption) in enumerate(rows):
        sound = f"bird-mml/audio/{name.replace(' ', '_')}/{clip}.wav"
        quoted = caption.replace('"', '""')
        lines.append(f'{name},{prefix}{sound},{prefix}bird-mml/photos/{photo},"{quoted}"')
        write_sound(root / sound, hz=400 * (number + 1))
        write_photo(root / "bird-mml/photos" / photo, 40 * number)
    (root / "bird-mml.csv").write_text("\n".join(lines) + "\n")
    (root / "taxa_ssw60_vb100_all.csv").write_text(TAXA)
    return root

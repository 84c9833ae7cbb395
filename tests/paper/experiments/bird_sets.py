"""Bird-MML, SSW60, VB100 and CUB-200-2011 with enough tiny files to train and to be evaluated on."""

from pathlib import Path

import numpy as np
from PIL import Image

from paper.datasets.bird_files import SPECIES, write_photo, write_sound, write_video

TAXA = "label,common_name,scientific_name\n" + "".join(
    f"{7 * label},{name},Genus {name.split()[0].lower()}\n" for label, name in enumerate(SPECIES)
)


def write_all(root: Path, clips: int = 3, rows: int = 12) -> Path:
    """Each set in a folder of its own name."""
    write_bird_mml(root / "bird-mml", rows)
    write_ssw60(root / "ssw60", clips)
    write_vb100(root / "vb100", clips)
    write_cub200(root / "cub200", clips)
    return root


def write_bird_mml(root: Path, rows: int) -> None:
    """The released csv; of every species so many photos, and half as many sounds."""
    root.mkdir(parents=True)
    lines = ["scientific_name,audio_file,photo_file,combined_caption"]
    for label, name in enumerate(SPECIES):
        genus = f"Genus_{name.split()[0].lower()}"
        for row in range(rows):
            sound = f"bird-mml/audio/{genus}/{name.replace(' ', '_')}_{label}{row // 2}_clip0.wav"
            photo = f"bird-mml/photos/{label}.0/{label}{row}.JPG"
            write_sound(root / sound, 300 * 2.5**label + 5 * row)
            write_photo(root / photo, 60 * label + 2 * row)
            lines.append(f'{genus.replace("_", " ")},{sound},{photo},"A {name.lower()}, calling, {row}."')
    (root / "bird-mml.csv").write_text("\n".join(lines) + "\n")
    (root / "taxa_ssw60_vb100_all.csv").write_text(TAXA)


def write_ssw60(root: Path, clips: int, own_sounds: bool = False) -> None:
    """Clips of the species in another order than in Bird-MML; one of them, of the last species, has no sound.

    With `own_sounds` the others have recordings beside the videos, which are not compressed.
    """
    root.mkdir(parents=True)
    species = list(reversed(SPECIES))
    (root / "taxa.csv").write_text("label,common_name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(species)))
    lines = ["asset_id,label,split"]
    for label, name in enumerate(species):
        for clip in range(clips):
            asset = 100 * (label + 1) + clip
            silent = label == 2 and clip == clips - 1
            hz = None if silent else 300 * 2.5 ** SPECIES.index(name) + 5 * clip
            write_video(root / f"video_ml/{asset}.mp4", frames=4 + clip, hz=hz, seconds=0.4)
            if own_sounds and hz is not None:
                write_sound(root / f"audio_ml/{asset}.wav", hz)
            lines.append(f"{asset},{label},{'test' if clip else 'train'}")
    (root / "video_ml.csv").write_text("\n".join(lines) + "\n")


def write_vb100(root: Path, clips: int) -> None:
    lines = []
    for label, name in enumerate(SPECIES):
        for clip in range(clips):
            path = f"{name.replace(' ', '_')}/{clip}.mp4"
            write_video(root / "vb100_all_videos" / path, frames=5, hz=400 * (label + 1), seconds=0.3)
            lines.append(f"{path} {2 * label}\n")
    folder = root / "vb100_annotations_v1"
    folder.mkdir(parents=True)
    (folder / "train_video.txt").write_text("".join(lines[::2]))
    (folder / "test_video.txt").write_text("".join(lines[1::2]))


def write_cub200(root: Path, photos: int) -> None:
    """Two species of which Bird-MML has none."""
    for label, name in enumerate(("001.Black_footed_Albatross", "002.Laysan_Albatross")):
        for photo in range(photos):
            path = root / "CUB_200_2011/images" / name / f"{name[4:]}_{photo:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(10 * label + photo).integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(path)

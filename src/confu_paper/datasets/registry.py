"""The data sets of the paper: what each is, where it comes from, and whether its files are there and whole.

Licences, sizes and checksums are what publishers say of their data. What they were not found to say is empty, and is
printed as "not published".
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from confu_paper.datasets.bird_mml import read_bird_mml
from confu_paper.datasets.birds import BirdRows
from confu_paper.datasets.cub200 import read_cub200
from confu_paper.datasets.data_set_info import DataSetInfo
from confu_paper.datasets.finding import Found, found
from confu_paper.datasets.ssw60 import read_ssw60
from confu_paper.datasets.vb100 import read_vb100

__all__ = ["DataSetInfo", "Found", "data_sets", "found"]

_MULTIBENCH = "the processed affect data sets, a folder linked by the README of https://github.com/pliang279/MultiBench"
_SSW60_ROWS: tuple[Callable[[Path], BirdRows], ...] = (
    partial(read_ssw60, part="video"), partial(read_ssw60, part="image"), partial(read_ssw60, part="audio"),
)  # fmt: skip


def _affect(name: str, title: str, what: str, download: str, licence: str = "") -> DataSetInfo:
    return DataSetInfo(
        name=name, title=title, what=what, get=f"{download}: {_MULTIBENCH}", licence=licence,
        files=(f"{name}.parquet",),
        layout=(
            "one pickle: train, valid and test, each with arrays vision, audio and text (N, T, features), labels, id",
            "labels of MOSI and MOSEI are sentiments, below 0 negative; the others' are {0, 1} or {-1, 1}; of shape "
            "(N,), (N, 1) or (N, 1, 1); audio of MOSI holds minus infinity in places",
        ),
        downloads=(download,), unpack=f"confu data affect {download} --name {name}",
        folder="affect",
    )  # fmt: skip


_ALL = (
    DataSetInfo(
        name="xor", title="XOR of bits", what="three vectors of bits a row, drawn from a seed",
        get="nothing to fetch, it is generated", licence="none is needed", size="no files",
    ),
    DataSetInfo(
        name="av-mnist", title="AV-MNIST",
        what="weakened digits and spoken digits in noise: 60,000 rows for training and validation, 10,000 for test",
        get="avmnist.tar.gz, linked by the README of https://github.com/pliang279/MultiBench; or built from MNIST, the "
        "Free Spoken Digit Dataset and ESC-50 by `confu data av-mnist`",
        licence="of MultiBench's archive and of MNIST none was found; the Free Spoken Digit Dataset is CC BY-SA 4.0, "
        "ESC-50 CC BY-NC",
        files=tuple(
            name.format(split=split)
            for split in ("train", "test")
            for name in ("image/{split}_data.npy", "audio/{split}_data.npy", "{split}_labels.npy")
        ),
        downloads=("avmnist.tar.gz",), unpack="tar xzf avmnist.tar.gz",
        layout=(
            "image/{train,test}_data.npy  (60000 | 10000, 784) numbers from 0 to 255",
            "audio/{train,test}_data.npy  (60000 | 10000, 112, 112) numbers from 0 to 255",
            "{train,test}_labels.npy  (60000 | 10000,)",
        ),
    ),
    _affect("mosi", "MOSI", "2,199 clips of opinions: features of vision (20), audio (5) and words (300), sentiment",
            "mosi_data.pkl"),
    _affect("ur-funny", "UR-FUNNY", "16,514 clips of talks: features of vision (371), audio (81) and words (300), "
            "funny or not", "humor.pkl"),
    _affect("mustard", "MUStARD", "690 clips of television: features of vision (371), audio (81) and words (300), "
            "sarcastic or not", "sarcasm.pkl",
            "MIT (https://github.com/soujanyaporia/MUStARD; the clips are of television shows)"),
    _affect("mosei", "MOSEI", "clips of opinions as in MOSI, ten times as many: features of vision, audio and words, "
            "sentiment", "mosei_senti_data.pkl"),
    DataSetInfo(
        name="bird-mml", title="Bird-MML",
        what="149,681 triplets of photo, 10 s of sound and caption for 150 species; what the bird models learn from",
        get="https://zenodo.org/records/18920487; a set for other species is made by `confu data bird-mml`. The common "
        "names are in taxa_ssw60_vb100_all.csv of https://github.com/estafons/confu: put it beside the csv",
        licence="for research without commerce; each photo, recording and text keeps the Creative Commons licence of "
        "its author",
        rows=(read_bird_mml,),
        layout=(
            "a csv with scientific_name, audio_file, photo_file, combined_caption; its paths are opened as they stand",
            "photos/<taxon>.0/<id>.JPG",
            "audio/<Genus_species>/<Common_Name>_<xeno-canto id>_clip<k>.wav",
            "taxa.csv (60 species) and taxa_ssw60_vb100_all.csv (150; the labels skip 88 and 119)",
        ),
    ),
    DataSetInfo(
        name="ssw60", title="SSW60",
        what="5,400 videos of 60 species of 10 s, not all with sound; 31,821 photos and 3,861 recordings beside them",
        get="https://ml-inat-competition-datasets.s3.amazonaws.com/ssw60/ssw60.tar.gz, as "
        "https://github.com/visipedia/ssw60 says",
        licence="for research in computer vision only, not to be passed on; the terms of use are in the archive",
        size="31.1 GB, unpacked about 32 GB",
        files=("taxa.csv", "video_ml.csv", "audio_ml.csv", "images_inat.csv", "images_nabirds.csv", "video_ml",
               "audio_ml", "images_inat", "images_nabirds"),
        checksums={"ssw60.tar.gz": ("md5", "af0a54ea1a897d130d91be8ffe0de81c")},
        downloads=("ssw60.tar.gz",), unpack="tar xzf ssw60.tar.gz", rows=_SSW60_ROWS,
        layout=(
            "video_ml.csv (asset_id, label, split) and video_ml/<asset_id>.mp4",
            "audio_ml.csv and audio_ml/<asset_id>.wav",
            "images_inat.csv, images_nabirds.csv and images_*/<asset_id>.jpg",
            "taxa.csv (label, common_name)",
        ),
    ),
    DataSetInfo(
        name="vb100", title="VB100", what="videos of 100 species, with their own sound",
        get="http://arma.sourceforge.net/vb100/: the videos and the annotations, unpacked beside each other",
        files=("vb100_annotations_v1/train_video.txt", "vb100_annotations_v1/test_video.txt", "vb100_all_videos"),
        rows=(read_vb100,),
        layout=(
            "vb100_annotations_v1/{train,test}_video.txt: lines of <Species_Name>/<file> and a whole number, the label",
            "vb100_all_videos/<Species_Name>/<file>",
        ),
    ),
    DataSetInfo(
        name="cub200", title="CUB-200-2011", what="11,788 photos of 200 species; no sound",
        get="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz, as "
        "https://www.vision.caltech.edu/datasets/cub_200_2011/ says",
        size="1.1 GB",
        files=("images", "images.txt", "train_test_split.txt"),
        # That of the download at data.caltech.edu, as many public programs that fetch it there have it.
        checksums={"CUB_200_2011.tgz": ("md5", "97eceeb196236b17998738112f37df78")},
        downloads=("CUB_200_2011.tgz",), unpack="tar xzf CUB_200_2011.tgz", rows=(read_cub200,),
        layout=(
            "CUB_200_2011/images/<class>/<file>.jpg",
        ),
    ),
)  # fmt: skip


def data_sets() -> list[DataSetInfo]:
    """Every data set that the library knows.

    >>> [info.name for info in data_sets()][:3]
    ['xor', 'av-mnist', 'mosi']
    """
    return list(_ALL)

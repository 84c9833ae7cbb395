"""A tiny AV-MNIST, built once, and networks and batches that fit it."""

from dataclasses import replace

import pytest

from confu_paper.datasets import build_av_mnist
from confu_paper.experiments import av_mnist
from data.fixtures import write_sources

ENCODERS = {
    "image": {"kind": "mlp", "in_dim": 784, "hidden_dims": [16], "out_dim": 16},
    "audio": {"kind": "conv", "channels": [4, 8], "out_dim": 16, "first_pool": 4, "first_kernel": 3},
    "text": {**av_mnist.SMALL_ENCODERS["text"], "width": 8, "layers": 1, "out_dim": 16},
}


@pytest.fixture(scope="session")
def av_mnist_data(tmp_path_factory):
    """A few dozen rows in MultiBench's layout."""
    root = tmp_path_factory.mktemp("av-mnist")
    return build_av_mnist(**write_sources(root), out=root / "built", snr_db=0.0, progress=False)


@pytest.fixture(scope="module")
def tiny_av_mnist():
    """Size smoke with small networks and batches of ten: the tests check the way, not the numbers."""
    scale = av_mnist.SCALES["smoke"]
    train = scale.train.model_copy(update={"batch_size": 10, "precision": "float32"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(av_mnist.SCALES, "smoke", replace(scale, encoders=ENCODERS, train=train, dim=16))
        yield

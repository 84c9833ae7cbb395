import numpy as np
import pytest

from confu_paper.datasets.av_mnist_build import fit_pca


def test_keeps_the_fewest_components_that_reach_the_share():
    random = np.random.default_rng(0)
    images = (random.standard_normal((500, 6)) * [30, 20, 15, 10, 5, 2] + 128).round().clip(0, 255).astype(np.uint8)
    variances = np.linalg.svd(images - images.mean(0), compute_uv=False) ** 2
    shares = (variances / variances.sum()).cumsum()
    pca = fit_pca(images, share=0.8)
    kept = len(pca.components)
    assert shares[kept - 1] >= 0.8 > shares[kept - 2]
    assert pca.summary()["variance_kept"] == pytest.approx(shares[kept - 1], abs=1e-5)
    assert np.allclose(pca.components @ pca.components.T, np.eye(kept))


def test_all_components_give_the_images_back():
    images = np.random.default_rng(0).integers(0, 256, size=(40, 9), dtype=np.uint8)
    assert np.array_equal(fit_pca(images, share=1.0).project(images), images)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="do not differ"):
        fit_pca(np.ones((3, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="share: expected"):
        fit_pca(np.eye(3, dtype=np.uint8), share=0.0)

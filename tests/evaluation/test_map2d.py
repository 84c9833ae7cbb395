"""Maps of embeddings in the plane."""

import pytest
import torch

from confu.evaluation.map2d import map_2d


def points(n=40, dim=6):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [5.0, 3, 1, 0.5, 0.2, 0.1][:dim]
    )


def test_pca_is_the_singular_value_decomposition():
    vectors = points()
    found = map_2d(vectors)
    u, s, _ = torch.linalg.svd(vectors.double() - vectors.double().mean(0), full_matrices=False)
    assert torch.allclose(found.points.abs().double(), (u * s)[:, :2].abs(), atol=1e-4)
    assert found.shares == pytest.approx(((s[:2] ** 2) / (s**2).sum()).tolist())


@pytest.mark.parametrize("vectors", [torch.zeros(0, 3), torch.ones(1, 3), torch.ones(5, 2), torch.ones(4, 1)])
def test_few_or_equal_vectors_have_a_map_too(vectors):
    found = map_2d(vectors)
    assert found.points.shape == (len(vectors), 2)
    assert float(found.points.abs().sum()) < 1e-6
    assert found.shares == (0.0, 0.0)


def test_bad_input_is_refused(as_users_run):
    with pytest.raises(ValueError, match="method 'umap' is not known"):
        map_2d(points(), "umap")
    with pytest.raises(ValueError, match="vectors must be finite"):
        map_2d(torch.tensor([[float("nan"), 0.0]]))


def test_tsne_keeps_clusters_together():
    pytest.importorskip("sklearn")
    noise = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 0.1
    clusters = noise + 8.0 * (torch.arange(30) < 15)[:, None]
    found = map_2d(clusters, "tsne")
    assert found.shares is None
    distances = torch.cdist(found.points, found.points).fill_diagonal_(torch.inf)
    assert ((distances.argmin(1) < 15) == (torch.arange(30) < 15)).all()
    with pytest.raises(ValueError, match="t-SNE needs at least 4 vectors; got 3"):
        map_2d(points(3), "tsne")

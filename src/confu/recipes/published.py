"""What the paper reports, by table and figure, so that every number of ours stands beside it.

Source: Koutoupis et al., "The More, the Merrier: Contrastive Fusion for Higher-Order Multimodal Alignment",
arXiv 2511.21331. Percentages; (mean, standard deviation over five runs) where the paper gives both.
"""

Value = tuple[float, float | None]

# Table 1: zero-shot accuracy on AV-MNIST by method and query.
AV_MNIST: dict[str, dict[str, Value]] = {
    "clip": {"audio": (41.1, 0.3), "image": (63.0, 0.4)},
    "tri-clip": {"audio": (40.0, 0.4), "image": (62.5, 0.4)},
    "symile": {"image+audio": (70.9, 0.3)},
    "gram": {"audio": (9.8, 0.4), "image": (63.9, 0.8), "image+audio": (64.4, 0.5)},
    "triangle": {"image+audio": (64.9, 0.3)},
    "confu": {"audio": (39.7, 0.1), "image": (64.6, 0.3), "image+audio": (71.2, 0.2)},
}

# Supervised classifiers of one modality on AV-MNIST, which the noise of our build is calibrated to: the unimodal
# results of MultiBench (Liang et al. 2021, arXiv 2107.07502), whose files the paper uses; quoted, not re-measured.
AV_MNIST_SUPERVISED: dict[str, Value] = {"audio": (42.0, None), "image": (65.1, None)}

# Figure 6: the smallest embedding dimension at which a method solves XOR at p = 1 (text of Appendix B.2).
XOR_SMALLEST_DIMENSION: dict[str, int] = {"confu": 64, "symile": 8}

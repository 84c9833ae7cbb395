"""The XOR task: three bit vectors of which any two say nothing of each other, and two together give the third."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    import confu.data


def xor(
    p: float,
    num_train: int = 10_000,
    num_validation: int = 2_000,
    num_test: int = 5_000,
    bits: int = 5,
    seed: int = 0,
) -> "confu.data.Splits":
    """Draw the XOR task.

        x1_j, x2_j ~ Bernoulli(0.5);   i ~ Bernoulli(p), one for the whole row;   x3 = x1 xor x2 if i else x1

    Predicting x2 from x1 and x3 is a choice among `2**bits` candidates (`xor_candidates`), so the label of a row
    is the number that x2 spells. The paper's equation leaves open whether i is drawn per row or per bit; per row is
    what the task's origin does (Saporta et al., "Symile", 2024).

    Args:
        p: the probability that a row holds the XOR.
        num_train: rows to train on.
        num_validation: rows of a draw of its own, for choosing a model, so that the test rows stay unseen.
        num_test: rows to report on.
        bits: the length of each vector.
        seed: every split is a separate stream of it.

    Returns:
        Splits with modalities x1, x2, x3, each (n, bits) float of 0 and 1.

    Raises:
        ValueError: p outside [0, 1], or no bits.

    Reference: Eq. 14, appendix A.4.

    >>> import torch
    >>> rows = xor(p=1.0, num_train=4).train.batch(torch.arange(4)).inputs
    >>> bool(((rows["x1"].values + rows["x2"].values) % 2 == rows["x3"].values).all())
    True
    """
    from confu.data import Splits

    _check(p, bits)
    sizes = {"train": num_train, "validation": num_validation, "test": num_test}
    return Splits(**{name: _draw(name, size, p, bits, (seed, k)) for k, (name, size) in enumerate(sizes.items())})


def _draw(name: str, size: int, p: float, bits: int, seed: tuple[int, int]) -> "confu.data.ArrayDataset":
    import torch

    from confu.data import ArrayDataset, TensorColumn

    if size < 1:
        raise ValueError(f"num_{name}: expected at least 1 row; got {size}")
    random = np.random.default_rng(seed)
    x1, x2 = random.integers(0, 2, size=(2, size, bits))
    holds = random.random(size) < p
    x3 = np.where(holds[:, None], x1 ^ x2, x1)
    columns = {
        modality: TensorColumn(torch.from_numpy(values.astype(np.float32)))
        for modality, values in (("x1", x1), ("x2", x2), ("x3", x3))
    }
    labels = torch.from_numpy(x2 @ (1 << np.arange(bits)[::-1]))
    return ArrayDataset(columns, labels, [f"{name}-{row}" for row in range(size)], _class_names(bits))


def all_codes(bits: int = 5) -> "torch.Tensor":
    """Every bit vector, (2**bits, bits) float; row k spells k in binary, the highest bit first.

    >>> all_codes(2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    import torch

    _check(0.0, bits)
    numbers = torch.arange(2**bits)
    return torch.stack([(numbers >> shift) & 1 for shift in reversed(range(bits))], dim=1).float()


def xor_candidates(bits: int = 5) -> "confu.data.ArrayDataset":
    """Every possible x2 as a data set with that modality alone; the label of row k is k.

    >>> xor_candidates(5).modalities, len(xor_candidates(5))
    (('x2',), 32)
    """
    import torch

    from confu.data import ArrayDataset, TensorColumn

    codes = all_codes(bits)
    names = _class_names(bits)
    return ArrayDataset({"x2": TensorColumn(codes)}, torch.arange(len(codes)), names, names)


def xor_ceiling(p: float, bits: int = 5) -> float:
    """The best accuracy that any predictor of x2 from x1 and x3 can reach.

        (1 + (2**bits - 1) p) / 2**bits

    With K = 2**bits and d = x1 xor x3: if d is not zero the row holds the XOR, and x2 = d for certain; that is a share
    p (K - 1) / K of the rows. If d = 0, either i = 0 and x2 can be anything, or i = 1 and x2 = 0: the best guess is
    x2 = 0, right in 1 / K of all rows (p / K of them with the XOR, (1 - p) / K without). The sum is the ceiling;
    at p = 0 it is chance.

    Args:
        p: the probability that a row holds the XOR.
        bits: the length of each vector.

    >>> [xor_ceiling(p) for p in (0.0, 0.2, 1.0)]
    [0.03125, 0.225, 1.0]
    """
    _check(p, bits)
    codes = 2**bits
    return (1 + (codes - 1) * p) / codes


def _check(p: float, bits: int) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a probability in [0, 1]; got {p}")
    if bits < 1:
        raise ValueError(f"bits: expected at least 1; got {bits}")


def _class_names(bits: int) -> list[str]:
    return [f"{code:0{bits}b}" for code in range(2**bits)]

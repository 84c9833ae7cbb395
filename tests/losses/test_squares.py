"""Squared volumes and areas as quadratic forms; adjugates against cofactors."""

import pytest
import torch

from confu.losses.squares import area_squares, determinant_and_adjugate, volume_squares
from oracles import determinant_oracle


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_adjugates_and_determinants(size):
    half = torch.randn(4, size, size + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    matrices = half @ half.mT
    determinants, adjugates = determinant_and_adjugate(matrices)
    expected = [determinant_oracle(matrix) for matrix in matrices.tolist()]
    torch.testing.assert_close(determinants, torch.tensor(expected, dtype=torch.float64))
    identity = torch.eye(size, dtype=torch.float64) * determinants[:, None, None]
    torch.testing.assert_close(matrices @ adjugates, identity, atol=1e-9, rtol=1e-9)


def test_squares_of_some_rows_are_rows_of_the_matrix():
    generator = torch.Generator().manual_seed(0)
    x, y, z = (torch.randn(rows, 6, generator=generator, dtype=torch.float64) for rows in (3, 5, 5))
    for squares in (volume_squares(x, [y, z]), area_squares(x, y, z), volume_squares(x, [y])):
        assert squares.matrix().shape == (3, 5)
        torch.testing.assert_close(squares.matrix(slice(1, 3)), squares.matrix()[1:3])

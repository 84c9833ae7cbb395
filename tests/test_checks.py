"""How numbers that are not finite are named; the other checks are tested where they are used."""

import pytest
import torch

from confu.checks import check_finite


def test_check_finite_names_first_row_and_count():
    values = torch.zeros(5, 3)
    check_finite("image", values)
    check_finite("tokens", torch.zeros(3, dtype=torch.long))
    values[3, 1] = float("nan")
    values[4] = float("-inf")
    with pytest.raises(ValueError, match=r"image must be finite; 4 of 15 .*\(1 NaN\), the first in row 3"):
        check_finite("image", values)
    with pytest.raises(ValueError, match=r"loss must be finite; 1 of 1 numbers .*\(1 NaN\)\. "):
        check_finite("loss", torch.tensor(float("nan")))

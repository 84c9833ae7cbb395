import pytest
import torch

from confu.nn import Temperature


@pytest.mark.parametrize(("initial", "learned"), [(0.01, True), (0.07, False), (1.0, True)])
def test_begins_where_it_is_told(initial, learned):
    temperature = Temperature(initial, learned)
    assert temperature().item() == pytest.approx(initial)
    assert temperature().shape == ()
    assert len(list(temperature.parameters())) == int(learned)
    assert temperature().requires_grad == learned


def test_state_has_one_name_whether_learned_or_not():
    fixed, learned = Temperature(0.2), Temperature(learned=True)
    learned.load_state_dict(fixed.state_dict())
    assert learned().item() == pytest.approx(0.2)


@pytest.mark.parametrize("log_inverse", [-9.0, 9.0])
def test_stays_within_its_bounds(log_inverse):
    temperature = Temperature(learned=True)
    with torch.no_grad():
        temperature.log_inverse.fill_(log_inverse)
    assert temperature().item() == pytest.approx(1.0 if log_inverse < 0 else 0.01)


@pytest.mark.parametrize("bounds", [(0.01, 1.0), (0.0123, 0.77)])
@pytest.mark.parametrize("outward", [-1.0, 1.0])
def test_comes_back_from_a_bound_after_clamp(bounds, outward):
    """Pushed past a bound and projected, its gradient lives and leads back inside."""
    minimum, maximum = bounds
    temperature = Temperature(0.1, learned=True, minimum=minimum, maximum=maximum)
    optimizer = torch.optim.SGD(temperature.parameters(), lr=1.0)
    with torch.no_grad():
        temperature.log_inverse.add_(20 * outward)
    temperature().backward()
    assert temperature.log_inverse.grad == 0  # why clamp_ is needed
    temperature.clamp_()
    at_bound = temperature().item()
    assert at_bound == pytest.approx(minimum if outward > 0 else maximum)
    for _ in range(3):
        optimizer.zero_grad()
        # A loss that wants it away from the bound.
        (-outward * temperature().log()).backward()
        assert temperature.log_inverse.grad != 0
        optimizer.step()
        temperature.clamp_()
    assert minimum * 0.999 <= temperature().item() <= maximum * 1.001
    assert temperature().item() != pytest.approx(at_bound, rel=0.1)


def test_gradient_is_relative():
    """d T / d log_inverse = -T."""
    temperature = Temperature(0.07, learned=True)
    temperature().backward()
    assert temperature.log_inverse.grad.item() == pytest.approx(-0.07)


@pytest.mark.parametrize("initial", [0.005, 1.5, -1.0, 0.0, float("nan")])
def test_refuses_an_initial_value_outside(initial):
    with pytest.raises(ValueError, match=r"initial must be in \[minimum, maximum\] = \[0.01, 1.0\]; got"):
        Temperature(initial)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.5, 0.1), (-1.0, 1.0), (0.01, float("inf"))])
def test_refuses_bad_bounds(bounds):
    with pytest.raises(ValueError, match="0 < minimum <= maximum"):
        Temperature(0.07, minimum=bounds[0], maximum=bounds[1])

"""The checks on sizes and shares that encoders and fusion networks have in common."""


def check_positive(**sizes: int) -> None:
    """Refuse a size below one.

    >>> check_positive(width=300)
    >>> check_positive(width=0)
    Traceback (most recent call last):
    ValueError: width must be a whole number of at least 1; got 0

    Args:
        **sizes: each by the name of its argument.

    Raises:
        ValueError: for the first one that is not a whole number of at least 1.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {size!r}")


def check_share(**shares: float) -> None:
    """Refuse a share outside [0, 1).

    >>> check_share(dropout=0.1)
    >>> check_share(dropout=1.0)
    Traceback (most recent call last):
    ValueError: dropout is the share that is dropped and must be in [0, 1); got 1.0

    Args:
        **shares: each by the name of its argument.

    Raises:
        ValueError: for the first one that is outside, NaN included.
    """
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(f"{name} is the share that is dropped and must be in [0, 1); got {share!r}")


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that attention heads cannot share equally.

    >>> check_heads(300, 5)

    Args:
        width: size of a step's vector.
        heads: number of attention heads.

    Raises:
        ValueError: unless both are positive and `heads` divides `width`.
    """
    check_positive(width=width, heads=heads)
    if width % heads:
        near = max(width // heads, 1) * heads
        raise ValueError(
            f"width must be a multiple of heads; got width {width} with {heads} heads: take width {near} or "
            f"{near + heads}, or another number of heads"
        )

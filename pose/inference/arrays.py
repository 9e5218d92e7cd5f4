"""Checks of the arrays and ids that users pass."""

from operator import index

import numpy as np

from pose.errors import DataError


def check_array(name: str, values: object, shape: tuple[int, ...], kinds: str = "iuf") -> None:
    """Check that values are an array of finite numbers.

    Args:
        name: where and what, for the error message.
        values: anything.
        shape: expected shape.
        kinds: expected kinds of NumPy's types; ``iu`` for integers.

    Raises:
        DataError: they are no array, masked, of another type or shape, or not finite.
    """
    got = type(values).__name__
    if isinstance(values, np.ndarray):
        if values.dtype.kind in kinds and values.shape == shape and not np.ma.isMaskedArray(values):
            if np.isfinite(values).all():
                return
            raise DataError(f"{name}: NaN or infinite values; are the weights of the model damaged?")
        got = f"{values.dtype} {values.shape}"
    numbers = "integers" if kinds == "iu" else "numbers"
    raise DataError(f"{name}: expected an array of {numbers} of shape {shape}, got {got}")


def check_id(value: int, name: str) -> int:
    """Return the integer of Python that an integer of any library is.

    Raises:
        DataError: it is not an integer.
    """
    try:
        return index(value)
    except TypeError:
        raise DataError(f"{name}: expected an integer, got {value!r:.60}; use the ids of the annotation file") from None

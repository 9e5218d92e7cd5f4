"""Check of arrays that users pass."""

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
    is_array = isinstance(values, np.ndarray) and not np.ma.isMaskedArray(values)
    if not is_array or values.dtype.kind not in kinds or values.shape != shape:
        numbers = "integers" if kinds == "iu" else "numbers"
        got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise DataError(f"{name}: expected an array of {numbers} of shape {shape}, got {got}")
    if not np.isfinite(values).all():
        raise DataError(f"{name}: NaN or infinite values; are the weights of the model damaged?")

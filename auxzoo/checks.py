"""What kind of number an argument is: to Python `True` is 1, and numpy's numbers are no `int`."""

import numbers


def is_whole(value):
    """Returns whether `value` is a whole number, numpy's too, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value):
    """Returns whether `value` is a real number, infinities and NaN too, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)

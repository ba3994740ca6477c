"""Running error analysis: numbers that know how far off arithmetic of a given precision may have them.

Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.3. A result of +, -, *, / and of an elementary function is
off by what its operands' errors make of it and by a rounding of its own: `unit` = eps / 2 of its magnitude, a few of them for a
function. The formula itself, written with such numbers, so gives the bound of its error. Overflow and underflow are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Operand = "Rounded | Array | float"

# Roundings of common/math.h's functions, as tests/native/test_math.py has them; those of C++ and torch in float64 have fewer.
EXP, EXPM1, LOG = 2, 3, 2


@dataclass(frozen=True, eq=False)
class Rounded:
    """`value` in float64, and how far from it the same number found with roundings of `unit` may be."""

    value: Array
    error: Array | float
    unit: float

    __array_ufunc__ = None  # array + Rounded is Rounded's

    def _other(self, x: Operand) -> Rounded:
        return x if isinstance(x, Rounded) else Rounded(np.asarray(x, dtype=np.float64), 0.0, self.unit)

    def _rounded(self, value: Array, error: Array, roundings: int = 1) -> Rounded:
        return Rounded(value, error + roundings * self.unit * (np.abs(value) + error), self.unit)

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self.error, self.unit)

    def __abs__(self) -> Rounded:
        return Rounded(np.abs(self.value), self.error, self.unit)

    def __add__(self, x: Operand) -> Rounded:
        b = self._other(x)
        return self._rounded(self.value + b.value, self.error + b.error)

    def __sub__(self, x: Operand) -> Rounded:
        return self + -self._other(x)

    def __mul__(self, x: Operand) -> Rounded:
        b = self._other(x)
        error = np.abs(self.value) * b.error + np.abs(b.value) * self.error + self.error * b.error
        return self._rounded(self.value * b.value, error)

    def __truediv__(self, x: Operand) -> Rounded:
        b = self._other(x)
        value = self.value / b.value
        return self._rounded(value, (self.error + np.abs(value) * b.error) / (np.abs(b.value) - b.error))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, x: Operand) -> Rounded:
        return -self + x

    def __rtruediv__(self, x: Operand) -> Rounded:
        return self._other(x) / self

    def exp(self) -> Rounded:
        value = np.exp(self.value)
        return self._rounded(value, value * np.expm1(self.error), EXP)

    def expm1(self) -> Rounded:
        return self._rounded(np.expm1(self.value), np.exp(self.value) * np.expm1(self.error), EXPM1)

    def log(self) -> Rounded:
        return self._rounded(np.log(self.value), self.error / (self.value - self.error), LOG)

    def __getitem__(self, at: object) -> Rounded:
        shape = np.shape(self.value)
        return Rounded(self.value[at], np.broadcast_to(self.error, shape)[at], self.unit)


def where(condition: Array, a: Operand, b: Operand) -> Rounded:
    """Of two numbers, at least one of which is Rounded; both ways must come to the same where rounding may change the condition."""
    one = a if isinstance(a, Rounded) else b
    assert isinstance(one, Rounded)
    a, b = one._other(a), one._other(b)
    return Rounded(np.where(condition, a.value, b.value), np.where(condition, a.error, b.error), one.unit)

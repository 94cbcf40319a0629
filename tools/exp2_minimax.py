"""The coefficients of rust/src/float.rs: minimax for 1 + r P(r) against 2^r on [-1/2, 1/2].

Remez's exchange in extended precision; prints the coefficients and the largest relative error.
"""

from __future__ import annotations

from mpmath import lu_solve, matrix, mp, mpf, nstr, sign

DIGITS = 50
GRID = 4000
EXCHANGES = 30
# Degree for float32 and for float64.
DEGREES = (6, 11)


def fit(degree: int, points: list[mpf]) -> list[mpf]:
    """The polynomial whose error alternates with equal size over `points`."""
    size = degree + 1
    left, right = matrix(size, size), matrix(size, 1)
    for i, x in enumerate(points):
        weight = mpf(2) ** -x
        for k in range(degree):
            left[i, k] = x ** (k + 1) * weight
        left[i, degree] = (-1) ** i
        right[i] = 1 - weight
    return list(lu_solve(left, right))[:degree]


def error(coefficients: list[mpf], x: mpf) -> mpf:
    """Relative error at x."""
    value = 1 + sum(c * x ** (k + 1) for k, c in enumerate(coefficients))
    return value / mpf(2) ** x - 1


def extrema(errors: list[mpf], count: int) -> list[int]:
    """Where each run of one sign is largest; the smaller end goes while there are too many."""
    runs: list[list[int]] = [[0]]
    for i in range(1, len(errors)):
        if sign(errors[i]) == sign(errors[runs[-1][-1]]) or errors[i] == 0:
            runs[-1].append(i)
        else:
            runs.append([i])
    peaks = [max(run, key=lambda i: abs(errors[i])) for run in runs]
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    return peaks


def remez(degree: int) -> tuple[list[mpf], mpf]:
    """Coefficients of r, r^2, ... and the largest relative error."""
    count = degree + 1
    points = [-mp.cos(mp.pi * (2 * k + 1) / (2 * count)) / 2 for k in range(count)]
    grid = [mpf(i) / GRID - mpf(1) / 2 for i in range(GRID + 1)]
    for _ in range(EXCHANGES):
        coefficients = fit(degree, points)
        errors = [error(coefficients, x) for x in grid]
        exchanged = [grid[i] for i in extrema(errors, count)]
        if len(exchanged) < count or exchanged == points:
            break
        points = exchanged
    return coefficients, max(map(abs, errors))


def main() -> None:
    """Print both polynomials."""
    mp.dps = DIGITS
    for degree in DEGREES:
        coefficients, largest = remez(degree)
        print(f"degree {degree}: largest relative error {nstr(largest, 3)}")
        for coefficient in coefficients:
            print(f"    {nstr(coefficient, 20)}")


if __name__ == "__main__":
    main()

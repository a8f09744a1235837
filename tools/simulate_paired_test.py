"""How often tests of equal recipes reject at 5 %: the numbers behind `hyenadna/tasks/paired.py`. Run it without arguments; it takes seconds.

A run's metric is modelled as row effects that both runs share in part, an effect of each seed, and noise of each seed on each row.
The unit is the variance that the last brings to one seed's metric; `rows` is what shared effects bring to the difference, `seeds` the
variance of a seed's effect, in the second run times `ratio`.
"""

import numpy as np
from scipy.special import stdtr

N = 200_000


def rates(n_seeds: int, rows: float, seeds: float, ratio: float, rng: np.random.Generator) -> dict[str, float]:  # fmt: skip
    """Return the share of rejections of each test."""
    both = 2 / n_seeds
    d = rng.normal(size=N) * np.sqrt(rows + (seeds * (1 + ratio) + 2) / n_seeds)
    a, b = (
        (s + 1) / n_seeds * rng.chisquare(n_seeds - 1, N) / (n_seeds - 1)
        for s in (seeds, seeds * ratio)
    )
    by_rows = rows + both
    ours = by_rows + np.maximum(0, a + b - both)
    resampled = by_rows + (a + b) * (n_seeds - 1) / n_seeds

    def rate(variance: np.ndarray | float, df: np.ndarray | float = np.inf) -> float:
        return float((2 * stdtr(df, -np.abs(d) / np.sqrt(variance)) < 0.05).mean())

    return {
        "hyenadna compare": rate(ours, ours**2 / ((a**2 + b**2) / (n_seeds - 1))),
        "rows and seeds resampled": rate(resampled),
        "rows alone": rate(by_rows),
    }


def main() -> None:
    """Print a table."""
    rng = np.random.default_rng(0)
    print("n_seeds rows seeds ratio")
    for n_seeds in (2, 3, 5):
        for rows in (0, 1, 5):
            for seeds, ratio in ((0, 1), (0.5, 1), (1, 1), (3, 1), (10, 1), (10, 0)):
                found = rates(n_seeds, rows, seeds, ratio, rng)
                shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in found.items())
                print(f"{n_seeds:7} {rows:4} {seeds:5} {ratio:5}  {shares}")


if __name__ == "__main__":
    main()

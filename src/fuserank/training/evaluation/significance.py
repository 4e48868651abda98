"""Whether a difference between systems could be chance: over users of a run, over seeds of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fuserank.errors import DataError

__all__ = ["Comparison", "MeanStd", "compare", "mean_and_std"]

Doubles = npt.NDArray[np.float64]

_DRAWN = 1 << 20
"""Values drawn at once: eight megabytes, however many users and samples there are."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first system's figures less the second's, user by user.

    Attributes:
        n_users: users compared.
        difference: mean over users.
        low: lower end of its 95 % interval,
        high: and the upper end.
        p_value: chance of a difference this large, of either sign, if it were arbitrary which of
            a user's two figures is whose.
    """

    n_users: int
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class MeanStd:
    """A figure over runs that differ by their seed.

    Attributes:
        mean: over runs.
        std: standard deviation of a run, n − 1 in the divisor; None of a single run.
    """

    mean: float
    std: float | None

    def __str__(self) -> str:
        """Four digits, the deviation behind ±."""
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ±{self.std:.4f}")


def compare(first: Doubles, second: Doubles, *, seed: int = 0, samples: int = 10_000) -> Comparison:
    """Compare two systems by a metric of the same users.

    The interval is the percentile interval of the paired bootstrap: users are drawn with
    replacement. The p-value is of the paired randomisation test: signs of the users' differences
    are flipped at random; the observed signs count as one of the samples, so that it is never 0.
    Time grows with users × samples, memory does not. The same seed gives the same figures.

    Args:
        first: (n_users,) finite figures of a system.
        second: (n_users,) those of another, in the same order of users.
        seed: of the random draws.
        samples: draws of either kind.

    Raises:
        DataError: the arrays are empty, of different lengths, or hold what is not finite.

    Source: Smucker, Allan and Carterette, "A Comparison of Statistical Significance Tests for
    Information Retrieval Evaluation", CIKM 2007; Efron, "Bootstrap Methods: Another Look at the
    Jackknife", Annals of Statistics 7(1), 1979; the observed sample counted as in Phipson and
    Smyth, "Permutation P-values Should Never Be Zero", 2010.
    """
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise DataError(
            f"significance: found figures of shapes {first.shape} and {second.shape}, expected "
            "one figure a user and the same users; judge both systems on the same held-out part"
        )
    differences = first.astype(np.float64) - second
    if not np.isfinite(differences).all():
        raise DataError(
            f"significance: found {int((~np.isfinite(differences)).sum())} of {len(first)} users "
            "with a figure that is not finite, expected none; leave those users out of both arrays"
        )
    n = len(differences)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            differences[rng.integers(0, n, size=(rows, n))].mean(axis=1)
            for rows in _portions(samples, n)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Comparison(
        n_users=n,
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_value=_sign_flip_p(differences, rng, samples),
    )


def mean_and_std(values: Sequence[float]) -> MeanStd:
    """Return mean and standard deviation of one figure a run, one run or more.

    >>> mean_and_std([0.5, 0.25])
    MeanStd(mean=0.375, std=0.1767766952966369)
    """
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return MeanStd(mean=float(np.mean(values)), std=std)


def _sign_flip_p(differences: Doubles, rng: np.random.Generator, samples: int) -> float:
    changing = differences[differences != 0]  # a sign of 0 changes nothing
    observed = abs(changing.sum())
    # Sums of the same values in another order differ by rounding, and must not count as smaller.
    rounding = 1e-12 * np.abs(changing).sum()
    as_large = 0
    for rows in _portions(samples, len(changing)):
        kept = rng.integers(0, 2, size=(rows, len(changing))).astype(np.float64)
        sums = 2 * (kept @ changing) - changing.sum()
        as_large += int((np.abs(sums) >= observed - rounding).sum())
    return (1 + as_large) / (1 + samples)


def _portions(samples: int, width: int) -> Iterator[int]:
    """Yield numbers of samples to draw at once; they add up to all of them."""
    most = max(_DRAWN // max(width, 1), 1)
    for done in range(0, samples, most):
        yield min(most, samples - done)

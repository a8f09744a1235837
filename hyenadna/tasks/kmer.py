"""The baselines that a classifier has to beat: always the commonest class, and logistic regression on k-mer counts.

k and the strength of the regularisation are chosen on the dev split, never on the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import DataError
from hyenadna.sequence import base_codes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]


class KmerFit(NamedTuple):
    """A fitted k-mer logistic regression.

    Parameters
    ----------
    k
        Length of the k-mers, chosen on dev.
    inverse_regularization
        scikit-learn's C, chosen on dev.
    dev_mcc
        Matthews correlation on dev.
    test_probabilities
        Shape (n_test, C), or None without a test split.
    dev_probabilities
        Shape (n_dev, C).
    """

    k: int
    inverse_regularization: float
    dev_mcc: float
    dev_probabilities: Floats
    test_probabilities: Floats | None


def majority_probabilities(train_labels: npt.ArrayLike, n: int, n_classes: int) -> Floats:
    """Return, for each of n rows, the class frequencies of the training split; shape (n, C)."""
    counts = np.bincount(np.asarray(train_labels), minlength=n_classes).astype(np.float64)
    return np.tile(counts / counts.sum(), (n, 1))


def kmer_counts(sequences: Sequence[str], k: int) -> csr_matrix:
    """Count k-mers.

    Parameters
    ----------
    sequences
        n strings of nucleotide letters; k-mers with an ambiguous base are not counted.
    k
        1…12.

    Returns
    -------
    scipy.sparse.csr_matrix
        float32, shape (n, 4**k): square roots of the counts, each row scaled to length 1, which makes sequences of
        unequal length comparable and common k-mers less dominant.
    """
    from scipy.sparse import csr_matrix

    pointers, columns, values = [0], [], []
    powers = 4 ** np.arange(k - 1, -1, -1)
    for sequence in sequences:
        codes = base_codes(sequence).astype(np.int64)
        if codes.size >= k:
            windows = np.lib.stride_tricks.sliding_window_view(codes, k)
            found, counts = np.unique(windows[(windows < 4).all(1)] @ powers, return_counts=True)
            columns.append(found)
            values.append(np.sqrt(counts / max(1, counts.sum())))
            pointers.append(pointers[-1] + found.size)
        else:
            pointers.append(pointers[-1])
    return csr_matrix(
        (
            np.concatenate([np.zeros(0, dtype=np.float32), *values]).astype(np.float32),
            np.concatenate([np.zeros(0, dtype=np.int64), *columns]),
            np.array(pointers),
        ),
        shape=(len(sequences), 4**k),
    )


def fit_kmer_baseline(
    train: tuple[Sequence[str], npt.NDArray[np.int64]],
    dev: tuple[Sequence[str], npt.NDArray[np.int64]],
    test_sequences: Sequence[str] | None = None,
    *,
    orders: Sequence[int] = (3, 4, 5, 6),
    inverse_regularizations: Sequence[float] = (1.0, 10.0, 100.0),
) -> KmerFit:
    """Fit logistic regressions on k-mer counts and keep the one with the best Matthews correlation on dev.

    Parameters
    ----------
    train, dev
        Sequences and labels, int64, in 0…C-1.
    test_sequences
        Sequences to predict with the chosen model.
    orders, inverse_regularizations
        The grid.

    Raises
    ------
    DataError
        The training labels are of one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import matthews_corrcoef

    if np.unique(train[1]).size < 2:
        raise DataError("the k-mer baseline needs at least two classes among its training labels")
    best: KmerFit | None = None
    for k in orders:
        features = kmer_counts(train[0], k)
        dev_features = kmer_counts(dev[0], k)
        for strength in inverse_regularizations:
            model = LogisticRegression(C=strength, max_iter=200, tol=1e-3)
            model.fit(features, train[1])
            probabilities = model.predict_proba(dev_features)
            mcc = float(matthews_corrcoef(dev[1], probabilities.argmax(1)))
            if best is None or mcc > best.dev_mcc:
                test = (
                    None
                    if test_sequences is None
                    else model.predict_proba(kmer_counts(test_sequences, k))
                )
                best = KmerFit(k, strength, mcc, probabilities, test)
    if best is None:
        raise DataError(
            "the grid of the k-mer baseline is empty; expected at least one k and one C"
        )
    return best

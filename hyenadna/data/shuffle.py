"""Random sequences that are like a given one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hyenadna.sequence import base_codes, bases

__all__ = ["dinucleotide_shuffle"]


def dinucleotide_shuffle(sequence: str, rng: np.random.Generator) -> str:
    """Return the letters ACGT in a random order with the same first and last letter and as many of each dinucleotide.

    A random Eulerian path through the letters' graph (Altschul and Erickson 1985, doi 10.1093/oxfordjournals.molbev.a040370): of each letter but the
    last one random last way out is drawn until these lead to the last letter from everywhere; the other ways are shuffled.
    """
    codes = base_codes(sequence)
    if len(codes) < 4:
        return sequence
    ways = {int(letter): codes[1:][codes[:-1] == letter] for letter in np.unique(codes[:-1])}
    goal = int(codes[-1])
    while True:
        last = {letter: int(rng.integers(len(out))) for letter, out in ways.items()}
        if all(_leads(letter, goal, ways, last) for letter in ways):
            break
    order: dict[int, list[int]] = {}
    for letter, out in ways.items():
        if letter == goal:
            order[letter] = rng.permutation(out).tolist()
        else:
            order[letter] = [*rng.permutation(np.delete(out, last[letter])).tolist(), int(out[last[letter]])]  # fmt: skip
    path, at = [int(codes[0])], int(codes[0])
    position = dict.fromkeys(order, 0)
    while len(path) < len(codes):
        position[at] += 1
        at = order[at][position[at] - 1]
        path.append(at)
    return bases(np.array(path, dtype=np.uint8))


def _leads(
    letter: int, goal: int, ways: Mapping[int, npt.NDArray[np.uint8]], last: Mapping[int, int]
) -> bool:
    for _ in range(5):  # there are four letters
        if letter == goal:
            return True
        letter = int(ways[letter][last[letter]])
    return False

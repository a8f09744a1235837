"""How well LLR alone tells ClinVar's pathogenic from its benign alleles, by kind of variant.

Run as ``python tools/clinvar_auroc.py SCORED.vcf``; SCORED.vcf is what ``hyenadna vep`` made of a ClinVar file. Classes are those of its report: (likely) pathogenic against (likely)
benign, others and conflicts left out. Intervals are bootstrap 95 % intervals over alleles, each class drawn for itself.
The second figure is a control that knows no sequence: the number of bases that an allele adds or takes away.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from hyenadna.inference.variant_report import allele_kind, auroc, clinical_class
from hyenadna.io.vcf import info_values, open_variants

_KEYS = ("CLNSIG", "CLINICAL_SIGNIFICANCE")
_Values = npt.NDArray[np.float32]


def main(path: str) -> None:
    """Print a line for all alleles and for each kind."""
    # kind -> significance -> pairs of -LLR and size
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    with open_variants(path) as source:
        for record in source.records:
            entries = info_values(record.line)
            significance = clinical_class(next((entries[k] for k in _KEYS if k in entries), "").replace("_", " "))  # fmt: skip
            if not significance:
                continue
            for alt, llr in zip(record.alts, entries["HYENADNA_LLR"].split(","), strict=True):
                if llr != ".":
                    pair = (-float(llr), float(abs(len(alt) - len(record.ref))))
                    for kind in ("all", allele_kind(record.ref, alt)):
                        found[kind][significance].append(pair)
    rng = np.random.default_rng(0)
    print("kind\tpathogenic\tbenign\tAUROC of -LLR\t95 % interval\tAUROC of size")
    for kind, groups in sorted(found.items(), key=lambda item: -sum(map(len, item[1].values()))):
        bad, good = (np.array(groups[name], np.float32).reshape(-1, 2) for name in ("pathogenic", "benign"))  # fmt: skip
        if min(len(bad), len(good)) < 10:
            print(f"{kind}\t{len(bad)}\t{len(good)}\ttoo few")
            continue
        low, high = np.quantile([auroc(_drawn(bad[:, 0], rng), _drawn(good[:, 0], rng)) for _ in range(2000)], (0.025, 0.975))  # fmt: skip
        print(
            f"{kind}\t{len(bad)}\t{len(good)}\t{auroc(bad[:, 0], good[:, 0]):.3f}\t{low:.3f} to {high:.3f}\t{auroc(bad[:, 1], good[:, 1]):.3f}"
        )


def _drawn(values: _Values, rng: np.random.Generator) -> _Values:
    return values[rng.integers(len(values), size=len(values))]


if __name__ == "__main__":
    main(sys.argv[1])

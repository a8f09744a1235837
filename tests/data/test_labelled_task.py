from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hyenadna.data.labelled_task import load_task, stratified_split
from hyenadna.errors import DataError, FileFormatError
from hyenadna.sequence import reverse_complement


def table(path: Path, *rows: tuple[str, int]) -> Path:
    path.write_text("sequence,label\n" + "".join(f"{s},{y}\n" for s, y in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table(tmp_path / "train.csv", ("AAAC", 0), ("AAAG", 1), ("AACC", 0), ("AACG", 1), ("AATC", 1))
    table(tmp_path / "dev.csv", ("CCCA", 0), ("CCGA", 1))
    table(tmp_path / "test.csv", ("GAGA", 0), ("GAGG", 1))
    return tmp_path


def test_folder_has_its_three_splits(folder: Path) -> None:
    task = load_task(folder)
    assert task.test is not None
    assert (len(task.train), len(task.dev), len(task.test)) == (5, 2, 2)
    assert task.label_names == ("0", "1")
    assert (task.n_classes, task.max_length, task.notes) == (2, 4, ())


def test_files_replace_those_of_the_folder(folder: Path) -> None:
    other = table(folder / "other.csv", ("TTTTT", 1))
    assert load_task(folder, test=other).max_length == 5


def test_training_rows_of_held_out_splits_are_left_out_on_both_strands(folder: Path) -> None:
    table(
        folder / "train.csv",
        ("AAAC", 0), ("AAAG", 1), (reverse_complement("GAGA"), 0), ("gagg", 1), ("CCCA", 0),
    )  # fmt: skip
    table(folder / "dev.csv", ("CCCA", 0), ("CCGA", 1), ("GAGG", 1))
    task = load_task(folder)
    assert task.train.sequences == ("AAAC", "AAAG")
    assert task.dev.sequences == ("CCCA", "CCGA")
    assert task.test is not None
    assert len(task.test) == 2
    assert task.dropped == {"train_in_dev": 2, "train_in_test": 1, "dev_in_test": 1}
    assert "1 of 5 train sequences are left out because they stand in test" in " ".join(task.notes)


def _extra(tmp_path: Path) -> tuple[list[str], Path]:
    """Write a task of windows of 100 bases, and a file of windows that meet them in every way."""
    rng = np.random.default_rng(0)
    long = ["".join(rng.choice(list("ACGT"), 300)) for _ in range(10)]
    rows = [s[100:200] for s in long]
    table(tmp_path / "train.csv", *((s, i % 2) for i, s in enumerate(rows[:4])))
    table(tmp_path / "dev.csv", *((s, i % 2) for i, s in enumerate(rows[4:7])))
    table(tmp_path / "test.csv", *((s, i % 2) for i, s in enumerate(rows[7:9])))
    extra = [
        (rows[4], 0),  # dev itself
        (
            reverse_complement(rows[5][30:] + long[5][200:230]).lower(),
            1,
        ),  # moved by 30, other strand
        (long[7], 1),  # holds a test row whole
        (long[8][172:272], 0),  # moved by 72: 9 of 81 20-mers, a ninth
        (long[8][174:274], 0),  # moved by 74: 7 of 81 are fewer than a tenth
        (reverse_complement(rows[0]), 0),  # in train
        (long[1][110:210], 1),  # overlaps train, which is no leak
        (rows[9], 1),
        (rows[9], 0),  # once more
    ]
    return [s for s, _ in extra], table(tmp_path / "more.csv", *extra)


def test_extra_rows_that_meet_held_out_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    sequences, file = _extra(tmp_path)
    alone, task = load_task(tmp_path), load_task(tmp_path, extra_train=[file])
    assert task.train.sequences == (*alone.train.sequences, *(sequences[i] for i in (4, 6, 7)))
    assert task.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 1]
    assert task.test is not None
    assert alone.test is not None
    assert task.dev.sequences == alone.dev.sequences
    assert task.test.sequences == alone.test.sequences
    assert task.dropped == {"extra_in_test": 2, "extra_in_dev": 2, "extra_in_train": 2}
    assert "2 of 9 sequences of" in " ".join(task.notes)
    assert f"3 of 9 sequences of {file} are trained on, too" in task.notes
    assert (len(task.extra), len(task.extra[0]), task.extra[0].path) == (1, 3, str(file))
    # negative control: a task of other sequences leaks nothing
    other = tmp_path / "other"
    other.mkdir()
    for name, letters in (("train", "AC"), ("dev", "AG"), ("test", "CG")):
        table(other / f"{name}.csv", (letters * 50, 0), (letters[0] * 100, 1))
    assert load_task(other, extra_train=[file]).dropped == {"train_in_dev": 1, "extra_in_train": 1}
    kept = load_task(tmp_path, extra_train=[file, file], drop_leaks=False)
    assert len(kept.train) == 4 + 2 * 9
    assert kept.dropped == {}


def test_extra_rows_never_stand_in_a_dev_split_that_is_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [("".join(rng.choice(list("ACGT"), 60)), i % 2) for i in range(100)]
    path = table(tmp_path / "x.csv", *rows)
    more = table(tmp_path / "more.csv", *[(reverse_complement(s[5:]), y) for s, y in rows])
    alone, task = load_task(path), load_task(path, extra_train=[more])
    assert task.dev.sequences == alone.dev.sequences
    assert task.dropped == {"extra_in_dev": len(task.dev)}
    assert len(task.train) == len(alone.train) + len(rows) - len(task.dev)


def test_extra_rows_have_the_classes_of_the_task(folder: Path) -> None:
    more = table(folder / "more.csv", ("AGGA", 2))
    with pytest.raises(FileFormatError, match=r"more\.csv:2: the label '2' is out of range"):
        load_task(folder, extra_train=[more])


def test_leaks_stay_where_asked(folder: Path) -> None:
    table(folder / "train.csv", ("GAGA", 0), ("AAAG", 1))
    task = load_task(folder, drop_leaks=False)
    assert len(task.train) == 2
    assert task.dropped == {}


def test_missing_dev_is_cut_from_train_stratified_and_without_shared_sequences(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    rows = [("".join(rng.choice(list("ACGT"), 12)), int(i % 4 == 0)) for i in range(200)]
    rows += [(reverse_complement(s), y) for s, y in rows[:100]]
    table(tmp_path / "train.csv", *rows)
    task = load_task(tmp_path)
    assert task.test is None
    assert "no dev split" in task.notes[0]
    assert len(task.train) + len(task.dev) == 300
    assert 20 <= len(task.dev) <= 40
    assert 0.1 < task.dev.labels.mean() < 0.4
    train = {min(s, reverse_complement(s)) for s in task.train.sequences}
    assert not train & {min(s, reverse_complement(s)) for s in task.dev.sequences}
    assert load_task(tmp_path).dev.sequences == task.dev.sequences
    assert load_task(tmp_path, seed=1).dev.sequences != task.dev.sequences


def test_single_file_is_the_training_split(tmp_path: Path) -> None:
    path = table(tmp_path / "x.csv", *[("ACGT"[i % 4] * (i + 3) + "C", i % 2) for i in range(20)])
    task = load_task(path)
    assert (len(task.train), len(task.dev)) == (18, 2)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_impossible_dev_fraction_is_refused(tmp_path: Path, fraction: float) -> None:
    path = table(tmp_path / "x.csv", ("ACGT", 0), ("AAGT", 1))
    with pytest.raises(DataError, match="dev_fraction"):
        load_task(path, dev_fraction=fraction)


def test_missing_and_ambiguous_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file or folder"):
        load_task(tmp_path / "none")
    with pytest.raises(FileFormatError, match="no training split"):
        load_task(tmp_path)
    table(tmp_path / "train.csv", ("ACGT", 0), ("AAGT", 1))
    table(tmp_path / "train.tsv", ("ACGT", 0))
    with pytest.raises(FileFormatError, match="several files could be the train split"):
        load_task(tmp_path)


def test_class_that_only_leaked_rows_had_is_refused(folder: Path) -> None:
    table(folder / "train.csv", ("AAAC", 0), ("GAGG", 1))
    with pytest.raises(DataError, match="no training sequence is left of class '1'"):
        load_task(folder)
    table(folder / "train.csv", ("GAGA", 0), ("GAGG", 1))
    with pytest.raises(DataError, match="no sequence is left in the train split"):
        load_task(folder)


def test_test_label_unknown_to_training_is_refused(folder: Path) -> None:
    table(folder / "test.csv", ("GAGA", 2))
    with pytest.raises(FileFormatError, match=r"test\.csv:2: the label '2' is out of range"):
        load_task(folder)


def test_stratified_split_keeps_shares_and_rows() -> None:
    labels = np.array([0] * 80 + [1] * 20 + [2])
    first, second = stratified_split(labels, 0.25, seed=3)
    assert sorted([*first, *second]) == list(range(101))
    assert np.bincount(labels[second]).tolist() == [20, 5]


def test_gue_folder_reads_completely(test_data: Path) -> None:
    task = load_task(test_data / "gue" / "prom" / "prom_core_tata", drop_leaks=False)
    assert task.test is not None
    assert (len(task.train), len(task.dev), len(task.test)) == (4904, 613, 613)
    assert task.max_length == 70

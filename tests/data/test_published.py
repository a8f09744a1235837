"""Published results: what is recorded adds up, and a mistake in a file is named with model and task."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyenadna.data.manifest import Task, remote_datasets
from hyenadna.data.published import PUBLISHED, PublishedResult, load_published, read_published
from hyenadna.errors import DataError, FileFormatError

TASKS = (Task("a", 2, "mcc", 70, False), Task("b", 3, "f1", None, True))
TEXT = """sources:
  - {name: one, paper: Somebody (2024), table: Table 1, url: "https://example.org/1", split: official test, protocol: as it was}
  - {name: two, paper: Nobody (2023), table: Table 2, url: "https://example.org/2", split: own, protocol: unknown, spread: sd of 5 seeds, metrics: {b: accuracy}}
results:
  - {model: CNN, source: two, values: {b: 90, a: 12.5}, spread: {b: 1.5}}
  - {model: CNN, source: one, values: {a: -3.25}}
"""


def read(tmp_path: Path, text: str) -> tuple[PublishedResult, ...]:
    (tmp_path / PUBLISHED).write_text(text, encoding="utf-8")
    return read_published(tmp_path / PUBLISHED, TASKS)


def test_results_come_in_the_order_of_the_tasks_with_their_own_metric(tmp_path: Path) -> None:
    results = read(tmp_path, TEXT)
    assert [(r.task, r.model, r.metric, r.value, r.spread, r.source.name) for r in results] == [
        ("a", "CNN", "mcc", 12.5, None, "two"),
        ("a", "CNN", "mcc", -3.25, None, "one"),
        ("b", "CNN", "accuracy", 90.0, 1.5, "two"),
    ]
    assert results[0].source.split == "own"
    assert results[0].source.spread == "sd of 5 seeds"
    assert results[1].source.url == "https://example.org/1"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("results:", "Results:", "keys results, sources"),
        ("results:\n", "results: none\nold:\n", "keys"),
        ("table: Table 1, ", "", "a source has the keys"),
        ('"https://example.org/1"', "arXiv", "'one' has the URL 'arXiv'"),
        ("split: own", "split: mine", "'two' has split: mine; expected one of official test"),
        ("name: two", "name: one", "the source 'one' is listed twice"),
        ("{b: accuracy}", "{b: auroc}", "the metric 'auroc' on the task 'b'"),
        ("{b: accuracy}", "{c: f1}", "'metrics' of the source 'two' names the task 'c'"),
        ("source: one", "source: three", "'CNN' has the source 'three'; expected one of one, two"),
        ("source: one, values: {a", "source: two, values: {a", "'CNN on a in two' is listed twice"),
        ("a: -3.25", "c: -3.25", "'CNN' in 'one' names the task 'c', which the manifest lacks"),
        (
            "a: -3.25",
            "a: -325",
            "'CNN' in 'one' on the task 'a' is -325; expected a number from -100",
        ),
        ("b: 90,", "b: -90,", "on the task 'b' is -90; expected a number from 0 to 100"),
        ("a: -3.25", "a: .nan", "on the task 'a' is nan"),
        ("a: -3.25", "a: true", "on the task 'a' is True"),
        ("a: -3.25", "a: '12'", "on the task 'a' is '12'"),
        ("{a: -3.25}", "{}", "'CNN' in 'one' has no values"),
        ("{a: -3.25}", "12", "is 12; expected one entry for each task"),
        ("a: -3.25", "a: 1, a: 2", "the key 'a' is written twice"),
        ("b: 1.5", "b: -1", "the spread of the result of 'CNN' in 'two' on the task 'b' is -1"),
        ("b: 90, ", "", "has a spread but no value on the task 'b'"),
        (", spread: sd of 5 seeds", "", "'CNN' in 'two' has a spread, but the source does not say"),
        ("  - {model: CNN, source: one, values: {a: -3.25}}\n", "", "'one' has no results"),
        ("results:", "results: [", "no YAML"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in TEXT
    with pytest.raises(FileFormatError, match=r"published\.yaml: ") as error:
        read(tmp_path, TEXT.replace(old, new))
    assert words in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"published\.yaml: .*cannot be read"):
        read_published(tmp_path / PUBLISHED, TASKS)


def test_data_sets_without_results_have_none() -> None:
    assert load_published("hg38") == ()
    assert load_published("scerevisiae") == ()
    with pytest.raises(DataError, match="did you mean 'gue'"):
        load_published("gua")


@pytest.mark.parametrize("name", [d.name for d in remote_datasets() if d.tasks])
def test_every_benchmark_has_results_of_hyenadna(name: str) -> None:
    results = load_published(name)
    (dataset,) = (d for d in remote_datasets() if d.name == name)
    tasks = {r.task for r in results if r.model == "HyenaDNA"}
    assert {task.name for task in dataset.tasks} - tasks <= {"drosophila_enhancers_stark"}
    assert f"`{PUBLISHED}`" in (dataset.folder / "README.md").read_text()


def gue(model: str, tasks: str = "") -> list[float]:
    found = [r for r in load_published("gue") if r.model == model and r.task.startswith(tasks)]
    assert all(r.source.split == "official test" for r in found)
    return [r.value for r in found]


@pytest.mark.parametrize(
    ("model", "tasks", "count", "mean"),
    [
        ("HyenaDNA", "EMP/", 10, 44.93),
        ("HyenaDNA", "tf/", 5, 56.00),
        ("HyenaDNA", "mouse/", 5, 50.97),
        ("HyenaDNA", "prom/prom_core", 3, 48.40),
        ("HyenaDNA", "prom/prom_300", 3, 34.99),
        ("DNABERT-2", "", 28, 66.80),
        ("DNABERT-2", "mouse/", 5, 67.99),
        ("DNABERT-2", "tf/", 5, 70.10),
        ("DNABERT-2", "prom/prom_300", 3, 84.21),
        ("DNABERT-2 (further pretrained on GUE)", "", 28, 67.77),
        ("NT-2500M-1000g", "", 28, 61.41),
        ("NT-500M-human", "", 28, 55.43),
        ("NT-2500M-multi", "EMP/", 10, 58.06),
        ("NT-2500M-multi", "mouse/", 5, 67.01),
        ("NT-2500M-multi", "prom/prom_300", 3, 88.14),
        ("NT-2500M-multi", "prom/prom_core", 3, 71.62),
        ("DNABERT (3-mer)", "prom/prom_300", 3, 84.63),
        ("DNABERT (3-mer)", "prom/prom_core", 3, 72.96),
    ],
)
def test_gue_has_the_means_that_the_paper_prints(
    model: str, tasks: str, count: int, mean: float
) -> None:
    values = gue(model, tasks)
    assert len(values) == count
    assert sum(values) / count == pytest.approx(mean, abs=0.011)  # printed means are cut or rounded
    # The control: one figure that is off by half a point would show.
    assert (sum(values) + 0.5) / count != pytest.approx(mean, abs=0.011)

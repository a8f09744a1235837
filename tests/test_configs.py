"""Every config file composes, fits its schema and builds its model, and each says what it is for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from hyenadna.cli.schema import register_schema, to_dataclass
from hyenadna.data.synthetics import TASKS
from hyenadna.errors import ConfigError
from hyenadna.models import NAMED_SIZES, HyenaConfig, HyenaForCausalLM
from hyenadna.models.filter import ImplicitFilter
from hyenadna.resources import config_dir, weights_dir
from hyenadna.training.config import PretrainConfig, TaskConfig, to_plain
from hyenadna.training.pretrain_data import open_genomes
from hyenadna.training.pretrain_parts import build_language_model, with_vocabulary
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.synthetic_data import task_of

CONFIGS = config_dir()
FILES = sorted(CONFIGS.rglob("*.yaml"))
EXPERIMENTS = [p.stem for p in (CONFIGS / "experiment").glob("*.yaml") if "finetune" not in p.stem]
SYNTHETICS = [f"synthetics/{p.stem}" for p in (CONFIGS / "experiment/synthetics").glob("*.yaml")]
TEXTS = [f"text/{p.stem}" for p in (CONFIGS / "experiment/text").glob("*.yaml")]
TASK_DATA = [p.stem for p in (CONFIGS / "data/synthetics").glob("*.yaml")]
OPTIONS = [
    f"{p.parent.name}={p.stem}" for p in FILES
    if p.parent.parent == CONFIGS and p.parent.name in (
        "model", "data", "task", "optimizer", "schedule", "length_warmup", "callbacks", "logger",
    )
]  # fmt: skip


def composed(*overrides: str) -> PretrainConfig:
    register_schema("pretrain", PretrainConfig)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_dataclass(compose("pretrain", list(overrides)), PretrainConfig)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(CONFIGS).as_posix())
def test_every_file_is_yaml_and_begins_with_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert yaml.safe_load(path.read_text()) is not None


def test_folder_holds_no_python() -> None:
    assert not [p for p in CONFIGS.rglob("*") if p.is_file() and p.suffix != ".yaml"]


def test_default_run_suits_a_laptop() -> None:
    config = composed()
    assert config.data.seq_len <= 1024
    assert config.data.seq_len * config.data.global_batch_size <= 2**15
    assert config.data.fasta == "bundled:scerevisiae/genome.2bit"


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_every_group_fits_the_schema(option: str) -> None:
    fasta: list[str] = []
    if option.startswith("data="):
        data = yaml.safe_load((CONFIGS / "data" / f"{option[5:]}.yaml").read_text())
        fasta = [f"data.genomes.{i}.fasta=x.fa" for i, _ in enumerate(data.get("genomes", []))]
        if not fasta and "fasta" in data and "bundled" not in str(data["fasta"]):
            fasta = ["data.fasta=x.fa"]
    composed(option, *fasta)


def test_human_split_holds_the_test_bases_out_of_both_files(test_data: Path) -> None:
    files = ("human_grch37_chr20.fa.gz", "human_grch37_chrX_first70Mb.fa.gz")
    given = [f"data.genomes.{i}.fasta={test_data / 'genomes' / f}" for i, f in enumerate(files)]
    config = composed("data=human", *given)
    first, second = (genome.splits for genome in open_genomes(config.data))
    assert [str(i) for i in first.train] == ["20:1-40000000", "20:50000001-63025520"]
    assert [str(i) for i in first.validation] == ["20:40000001-44000000"]
    assert [str(i) for i in first.test] == ["20:44000001-50000000"]
    assert [str(i) for i in second.train] == ["X:1-60000000", "X:66000001-69999930"]
    assert second.validation == ()
    assert [str(i) for i in second.test] == ["X:60000001-66000000"]


def test_human_genomes_without_their_files_are_asked_for_by_name() -> None:
    with pytest.raises(ConfigError, match=r"data\.genomes\.0\.fasta=FILE"):
        composed("data=human")
    config = composed("experiment=two_genomes", "data.fasta=x.fa")
    with pytest.raises(ConfigError, match="both given"):
        config.data.sources()


def _files_of(experiment: str) -> list[str]:
    """Return overrides that name the files which an experiment leaves to its user."""
    if "data.genomes.1.fasta=" in (CONFIGS / "experiment" / f"{experiment}.yaml").read_text():
        return ["data.genomes.0.fasta=x.fa", "data.genomes.1.fasta=y.fa"]
    return ["data.fasta=x.fa"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_builds_its_model_and_plan(name: str) -> None:
    config = composed(f"experiment={name}", *_files_of(name))
    with torch.device("meta"):
        model = build_language_model(config.model, seed=0, task=config.task.name)
    assert config.data.seq_len <= model.config.max_seq_len
    plan = LengthPlan(
        config.data.seq_len, config.data.global_batch_size, config.trainer.max_steps, config.length_warmup
    )  # fmt: skip
    assert plan.at(config.trainer.max_steps - 1).seq_len == config.data.seq_len


@pytest.mark.parametrize("name", SYNTHETICS)
def test_every_synthetic_experiment_builds_its_model_and_task(name: str) -> None:
    config = composed(f"experiment={name}")
    if config.grid.rows:
        return  # runs of a grid: tests/cli/test_pretrain_grid.py
    task = task_of(config.data)
    with torch.device("meta"):
        model = HyenaForCausalLM(with_vocabulary(config).hyena_config())
    assert model.config.vocab_size == task.vocab_size
    assert task.seq_len <= model.config.max_seq_len


@pytest.mark.parametrize("name", TEXTS)
def test_every_experiment_on_text_builds_its_model_of_bytes(name: str) -> None:
    config = composed(f"experiment={name}")
    assert config.grid.rows or config.data.kind == "text"
    shared = []
    for row in config.grid.rows.values() or [[f"experiment={name}"]]:
        for model in config.grid.models.values() or [[]]:
            tuned = [f"{key}={values[0]}" for key, values in config.grid.tune.items()]
            run = composed(*row, *model, *tuned, "data.text.train=x.txt")
            with torch.device("meta"):
                built = HyenaForCausalLM(with_vocabulary(run).hyena_config())
            assert built.config.padded_vocab_size == 256
            assert run.data.seq_len <= built.config.max_seq_len
            plain = to_plain(run)
            for key in ("mixers", "hyena_heads"):
                plain["model"].pop(key)
            shared.append((plain, built.n_parameters()))
    # Models that are compared differ in nothing else, and hardly in size.
    assert all(plain == shared[0][0] for plain, _ in shared)
    sizes = [size for _, size in shared]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.parametrize("name", TASK_DATA)
def test_every_synthetic_task_has_its_data_under_a_name(name: str) -> None:
    data = composed("experiment=synthetics/mad_protocol", f"data=synthetics/{name}").data
    assert data.synthetic.task == name
    defaults = dataclasses.replace(task_of(data))
    assert type(defaults)(seq_len=data.seq_len) == defaults
    assert set(TASK_DATA) == set(TASKS)


_REPORTS = {
    "human_tiny_1k": weights_dir() / "human-tiny-1k" / "report.json",
    "human_small_1k": Path(__file__).parent
    / "benchmarks/results/pretrain_human_small_1k_h200.json",
    "human_small_1k_masked": weights_dir() / "human-small-1k-masked" / "report.json",
    "human_small_1k_equivariant": weights_dir() / "human-small-1k-equivariant" / "report.json",
}


@pytest.mark.parametrize("name", _REPORTS)
def test_a_recipe_whose_results_are_told_is_the_one_that_had_them(name: str) -> None:
    """But for the number of steps, and two files in place of one that held both."""
    trained = json.loads(_REPORTS[name].read_text())["config"]
    recipe = to_plain(composed(f"experiment={name}", *_files_of(name)))
    # Settings that came later have defaults that say what went without saying.
    trained["model"] = HyenaConfig().to_dict() | trained["model"]
    trained["task"] = to_plain(TaskConfig()) | trained["task"]
    for group in ("model", "task", "optimizer", "schedule", "length_warmup", "callbacks", "seed"):
        assert recipe[group] == trained[group], group
    for key in ("seq_len", "global_batch_size", "rc_probability", "max_n_fraction"):
        assert recipe["data"][key] == trained["data"][key], key
    for part in ("validation", "test"):
        regions = [
            [x for g in data["genomes"] or [data] for x in g[part] or ()]
            for data in (recipe["data"], trained["data"])
        ]
        assert regions[0] == regions[1]
    for key in ("precision", "gradient_clip_norm", "cuda_graphs"):
        assert recipe["trainer"][key] == trained["trainer"][key], key


def test_the_masked_recipe_is_the_causal_one_but_for_what_is_predicted() -> None:
    causal, masked = (
        to_plain(composed(f"experiment={name}", *_files_of(name)))
        for name in ("human_tiny_1k", "human_tiny_1k_masked")
    )
    assert masked["model"].pop("bidirectional") is True
    assert causal["model"].pop("bidirectional") is False
    assert masked.pop("task") == to_plain(TaskConfig(name="masked_lm"))
    assert causal.pop("task") == to_plain(TaskConfig())
    assert masked == causal


def test_examples_of_other_mixers_have_the_shape_of_what_they_are_compared_with() -> None:
    for name, peer, mixers in (
        ("attention_tiny", "tiny_1k", ("attention",) * 2),
        ("hybrid_small", "small_32k", ("hyena", "hyena", "hyena", "attention")),
    ):
        mine, theirs = (composed(f"model={x}").model.hyena_config() for x in (name, peer))
        assert mine.layer_mixers == mixers
        assert dataclasses.replace(mine, mixers="hyena") == theirs


def test_the_recipe_of_the_context_curve_is_small_reads_it_all_and_ends_with_a_third_at_full_length() -> (
    None
):
    config = composed("experiment=human_small_32k", *_files_of("human_small_32k"))
    with torch.device("meta"):
        model = build_language_model(config.model, seed=0, task=config.task.name)
    assert model.n_parameters() <= 7e6
    assert model.config.max_seq_len >= config.data.seq_len == 32_768
    steps = config.trainer.max_steps
    plan = LengthPlan(config.data.seq_len, config.data.global_batch_size, steps, config.length_warmup)  # fmt: skip
    assert plan.lengths == (1024, 2048, 4096, 8192, 16_384, 32_768)
    assert plan.tokens_per_step == 262_144
    full = sum(plan.at(step).seq_len == 32_768 for step in range(steps)) / steps
    assert full == pytest.approx(1 / 3, abs=0.02)


def _resolved(model: HyenaConfig) -> tuple[int, int, float]:
    """Return how far apart a filter's values are half as alike, the shortest 1 % reach of a window, and the longest window's end; medians over channels."""
    torch.manual_seed(0)
    filters = ImplicitFilter(model)
    with torch.no_grad():
        k = filters(4096)[0][0]
    k = k - k.mean(dim=1, keepdim=True)
    spectrum = torch.fft.rfft(k, n=8192)
    alike = torch.fft.irfft(spectrum * spectrum.conj(), n=8192)[:, :4096]
    lag = (alike < alike[:, :1] / 2).int().argmax(dim=1).median()
    window = torch.exp(-torch.linspace(0, 1, model.grid_len) * filters.decay.abs()[:, None])
    reach = (window > 0.01).sum(dim=1).min()
    return int(lag), int(reach), float((window[:, -1] + model.filter_shift).max())


def test_its_filters_are_fine_and_local_as_well_as_long_which_plain_ones_on_that_grid_are_not() -> (
    None
):
    config = composed("experiment=human_small_32k", *_files_of("human_small_32k")).model.hyena_config()  # fmt: skip
    lag, reach, end = _resolved(config)
    assert lag <= config.conv_kernel_size  # where the convolutions end
    assert reach == pytest.approx(256, abs=1)
    assert end > 0.04
    plain = HyenaConfig(d_model=config.d_model, max_seq_len=config.max_seq_len)
    lag, reach, _ = _resolved(plain)
    assert lag > 5 * config.conv_kernel_size
    assert reach > 9000


@pytest.mark.parametrize("name", sorted(NAMED_SIZES))
def test_named_models_are_the_published_sizes(name: str) -> None:
    model = composed(f"model={name.replace('-', '_')}").model
    assert (model.d_model, model.n_layers, model.max_seq_len) == NAMED_SIZES[name]


def test_parameter_counts_in_the_comments_are_true() -> None:
    for path in (CONFIGS / "model").glob("*.yaml"):
        words: list[Any] = path.read_text().splitlines()[0].split()
        if "parameters." in words:
            said = float(words[words.index("M") - 1])
            with torch.device("meta"):
                model = HyenaForCausalLM(composed(f"model={path.stem}").model.hyena_config())
            assert model.n_parameters() / 1e6 == pytest.approx(said, rel=0.12), path.stem

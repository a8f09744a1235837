import importlib.metadata
from pathlib import Path

import pytest

import hyenadna
from hyenadna import resources
from hyenadna.cli.vep_output import vcf_header
from hyenadna.errors import ConfigError, FileFormatError


def test_bundled_names_become_files() -> None:
    assert resources.resolve("bundled:scerevisiae/genome.2bit").is_file()
    assert resources.resolve(resources.DEFAULT_MODEL).is_dir()
    assert resources.resolve(f"{resources.DEFAULT_MODEL}/config.json").is_file()
    with pytest.raises(
        FileFormatError, match=r"not bundled .*data sets: scerevisiae; 'hyenadna datasets fetch'"
    ):
        resources.resolve("bundled:nothing/here")


def test_other_paths_stay_but_for_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert resources.resolve("~/x.fa") == Path("/home/somebody/x.fa")
    assert resources.resolve("x.fa") == Path("x.fa")


@pytest.mark.parametrize(
    ("platform", "variable", "below"),
    [
        ("linux", "XDG_CACHE_HOME", "hyenadna"),
        ("linux", "HOME", ".cache/hyenadna"),
        ("darwin", "HOME", "Library/Caches/hyenadna"),
        ("win32", "LOCALAPPDATA", "hyenadna"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(
    platform: str, variable: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HYENADNA_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    assert resources.cache_dir("genomes") == tmp_path / below / "genomes"
    assert (tmp_path / below / "genomes").is_dir()


def test_a_cache_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="set HYENADNA_CACHE"):
        resources.cache_dir("genomes")


def test_an_incomplete_installation_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "hyenadna")
    with pytest.raises(FileFormatError, match="reinstall"):
        resources.config_dir()


def test_a_checkout_that_was_never_installed_has_an_unknown_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hyenadna.__version__ == importlib.metadata.version("hyenadna") != "unknown"

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert hyenadna.__version__ == resources.package_version() == "unknown"
    lines = vcf_header(["##fileformat=VCFv4.2", "#CHROM"], {}, {})
    assert "##hyenadnaVepVersion=unknown" in lines

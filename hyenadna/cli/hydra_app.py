"""One way into Hydra for the verbs that it configures: real `hydra.main`, with our run folders and our error sentences."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hyenadna.cli.schema import explain, register_schema, to_dataclass
from hyenadna.errors import ConfigError, HyenaDNAError
from hyenadna.resources import config_dir

T = TypeVar("T")

# Options of Hydra's own parser that make sense here, and whether they take a value.
_FLAGS = {
    "--multirun": False, "-m": False, "--run": False, "-r": False, "--cfg": True, "-c": True,
    "--resolve": False, "--package": True, "-p": True, "--info": False, "-i": False,
    "--config-dir": True, "-cd": True, "--config-path": True, "-cp": True, "--config-name": True,
    "-cn": True, "--hydra-help": False, "--shell-completion": False, "-sc": False,
    "--experimental-rerun": True,
}  # fmt: skip
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


_CFG = ("job", "hydra", "all")


@dataclass(frozen=True)
class Invocation:
    """What a task is told about its call besides the settings.

    Parameters
    ----------
    overrides
        The user's ``key=value`` words (of this job, in a multirun).
    multirun
        Whether this is one of several jobs.
    """

    overrides: tuple[str, ...]
    multirun: bool


def run_hydra_command(
    command: str, schema: type[T], task: Callable[[T, Invocation], int | None], words: Sequence[str]
) -> int:
    """Compose a command's config from its words and run its task, once or for every job of a multirun.

    Parameters
    ----------
    command
        Name of the primary config, ``configs/<command>.yaml``, whose defaults begin with ``<command>_schema``.
    schema
        Dataclass of the whole config.
    task
        Called with the filled dataclass; returns an exit status, None for 0.
    words
        The command line behind the verb: overrides and Hydra's options.

    Returns
    -------
    int
        The largest status of the jobs.

    Raises
    ------
    ConfigError
        A setting or option is unknown or has an impossible value.
    """
    arranged = _arrange(words)
    register_schema(command, schema)
    statuses: list[int] = []
    failures: list[HyenaDNAError] = []
    user_argv = sys.argv

    def job(config: DictConfig) -> None:
        # Lightning starts further processes by repeating sys.argv: it must be the user's own command line by then.
        hydra_argv, sys.argv = sys.argv, user_argv
        settings = HydraConfig.get()
        invocation = Invocation(
            overrides=tuple(settings.overrides.task), multirun=settings.mode == RunMode.MULTIRUN
        )
        try:
            statuses.append(task(to_dataclass(config, schema), invocation) or 0)
        except HyenaDNAError as error:
            # Kept from Hydra, which would print a page about it; the other jobs of a multirun go on.
            if invocation.multirun:
                sys.stderr.write(f"job {' '.join(invocation.overrides)} failed: {error}\n")
            failures.append(error)
        finally:
            sys.argv = hydra_argv

    entry = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=command)(job)
    asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    with _hydra_environment([user_argv[0], *arranged]), warnings.catch_warnings():
        # Hydra's own use of what a newer OmegaConf deprecates is nothing that a user can change.
        warnings.filterwarnings("ignore", module=r"hydra(\.|$)")
        try:
            entry()
        except (HydraException, OmegaConfBaseException) as error:
            if asked_for_traceback:
                raise
            raise ConfigError(explain(error, schema)) from error
        except SystemExit as leave:
            return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    if failures:
        raise failures[0]
    return max(statuses, default=0)


def compose_inside(command: str, schema: type[T], words: Sequence[str]) -> T:
    """Compose another config of a command inside of a task of `run_hydra_command`.

    Raises
    ------
    ConfigError
        As `run_hydra_command`.
    """
    try:
        return to_dataclass(hydra.compose(command, list(words)), schema)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, schema)) from error


@contextmanager
def _hydra_environment(argv: list[str]) -> Iterator[None]:
    """Give Hydra its words, have it raise errors instead of printing them and leaving, and undo its logging (``--info``)."""
    former_argv, former = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    root = logging.getLogger()
    former_handlers, former_level = list(root.handlers), root.level
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, "1"
    try:
        yield
    finally:
        sys.argv = former_argv
        root.handlers[:] = former_handlers
        root.setLevel(former_level)
        if former is None:
            os.environ.pop("HYDRA_FULL_ERROR", None)
        else:
            os.environ["HYDRA_FULL_ERROR"] = former


def _arrange(words: Sequence[str]) -> list[str]:
    """Check the words and put options before settings: Hydra's parser wants all settings in one row.

    Raises
    ------
    ConfigError
        An option is unknown, or lacks its value, or a word is no setting; Hydra's parser would print a page of usage.
    """
    options: list[str] = []
    settings: list[str] = []
    value_expected = False
    for word in words:
        name, equals, _ = word.partition("=")
        if value_expected or (options[-1:] == ["--info"] and word in _INFO):
            if options[-1] in ("--cfg", "-c") and word not in _CFG:
                raise ConfigError(f"option --cfg {word!r}: expected one of {', '.join(_CFG)}")
            options.append(word)
            value_expected = False
        elif word.startswith("-"):
            if name not in _FLAGS:
                raise ConfigError(
                    f"unknown option {name!r}; settings are written key=value, without dashes"
                )
            options.append("--info" if word == "-i" else word)
            value_expected = _FLAGS[name] and not equals
        elif equals or word.startswith("~"):
            settings.append(word)
        else:
            raise ConfigError(f"{word!r} is no setting; settings are written key=value")
    if value_expected:
        raise ConfigError(f"option {words[-1]!r} needs a value, such as --cfg job")
    return [*options, "--", *settings] if settings else options


def complete_override(command: str, schema: type[Any], incomplete: str) -> list[str]:
    """Return completions of an override, from Hydra's completion engine.

    Parameters
    ----------
    command, schema
        As in `run_hydra_command`.
    incomplete
        What the user has typed of the word.
    """
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    register_schema(command, schema)
    former = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            engine = BashCompletion(GlobalHydra.instance().config_loader())
            return sorted(engine._query(config_name=command, line=incomplete))
    except Exception:  # a completion that fails must not disturb the shell
        return []
    finally:
        GlobalHydra.instance().clear()
        if former is not None:
            GlobalHydra.instance().initialize(former)

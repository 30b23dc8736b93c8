"""The command line: flags made from the settings, and what an exit code means."""

import argparse
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

from robotics_rl import config, options
from robotics_rl.config import (
    ALGORITHMS,
    EvalSettings,
    FastSAC,
    Run,
    SelectiveHER,
    TrainSettings,
)
from robotics_rl.entropy_options import ENTROPY_MODES
from robotics_rl.errors import Interrupted, UsageError
from robotics_rl.recipes import BOOK_HER, FAST_ON, RECIPES
from robotics_rl.versions import check_dependencies

SET_BY_RECIPES = frozenset(name for recipe in RECIPES.values() for name in recipe)
# SAC stands first because its --ent-coef takes words as well as numbers.
ALGORITHM_PARTS = (config.SAC, config.PPO, config.TD3, config.DDPG)


class Parser(argparse.ArgumentParser):
    """``ArgumentParser`` whose errors are one line like all others."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("usage", "%(prog)s [flags]")
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what ``run`` prints."""
        raise UsageError(f"{message}; see {self.prog} --help")


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Call ``main`` with the arguments and turn its outcome into an exit code.

    0 done, 1 a criterion failed (or a traceback, or nobody reads the output), 2 bad usage, 128 + n
    stopped by signal n.
    """
    try:
        check_dependencies()
        code = main(sys.argv[1:])
    except SystemExit as done:  # of ``--help``
        code = int(done.code or 0)
    except UsageError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        code = 128 + stopped.signum
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 1
    sys.exit(code if _is_read() else code or 1)


def _is_read() -> bool:
    """Whether all output could be written; whoever read it may have seen enough, like ``head``."""
    try:
        sys.stdout.flush()  # at exit nobody would catch what this may raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def parse_train(argv: Sequence[str]) -> TrainSettings:
    """Settings from the arguments of ``train.py``."""
    parser = Parser(
        prog="train.py",
        description="Train a policy, on Fetch tasks with the engine fast, on others with plain\n"
        "Stable-Baselines3 (--engine sb3). Either writes checkpoints of Stable-Baselines3.",
        epilog="example:\n  python train.py --algo ppo --env FetchReachDense-v4 --seed 0",
    )
    parser.add_argument("--algo", required=True, choices=list(ALGORITHMS), help="algorithm")
    parser.add_argument("--env", required=True, help="Gymnasium environment id")
    parser.add_argument("--print-defaults", action=_PrintDefaults)
    add_options(parser.add_argument_group("run"), Run)
    add_options(parser.add_argument_group("algorithm"), *ALGORITHM_PARTS)
    add_options(parser.add_argument_group("entropy of sac"), *ENTROPY_MODES.values())
    hindsight = parser.add_argument_group("hindsight")
    hindsight.add_argument("--her", action="store_true", help="relabel goals in hindsight")
    add_options(hindsight, SelectiveHER)
    add_options(parser.add_argument_group("engine fast"), FastSAC)
    return training_settings(vars(parser.parse_args(argv)))


def training_settings(
    given: Mapping[str, Any], *, chapter: str | None = None, **defaults: Any
) -> TrainSettings:
    """Resolve parsed flags; ``defaults`` hold where neither a flag nor the recipe says more."""
    asked, defaults = dict(given), dict(defaults)
    algo, env_id, her = (
        asked.pop(name, defaults.pop(name, None)) for name in ("algo", "env", "her")
    )
    return config.resolve(algo, env_id, asked, her=bool(her), chapter=chapter, defaults=defaults)


def parse_eval(argv: Sequence[str]) -> tuple[EvalSettings, list[int]]:
    """Settings and episode seeds from the arguments of ``eval.py``."""
    parser = Parser(
        prog="eval.py",
        description="Evaluate a checkpoint, or a baseline, without executing code from the file.",
        epilog="examples:\n"
        "  python eval.py --ckpt checkpoints/ppo_FetchReachDense-v4_seed0.zip\n"
        "  python eval.py --baseline do-nothing --env FetchPush-v4",
    )
    add_options(parser, EvalSettings)
    return eval_settings(vars(parser.parse_args(argv)))


def eval_settings(given: Mapping[str, Any]) -> tuple[EvalSettings, list[int]]:
    """Check parsed evaluation flags; whoever describes a video wants one."""
    if {"video_out", "n_video_episodes"} & given.keys():
        given = {"video": True, **given}
    settings: EvalSettings = options.fill(EvalSettings, given)
    if (settings.ckpt is None) == (settings.baseline is None):
        raise UsageError(
            "there must be one thing to evaluate; "
            "give either --ckpt PATH or --baseline do-nothing|random"
        )
    return settings, settings.episode_seeds(given)


def add_options(
    parser: "argparse.ArgumentParser | argparse._ArgumentGroup",
    *parts: type,
    defaults: Mapping[str, Any] | None = None,
    only: Sequence[str] | None = None,
    without: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
    turned_on: Collection[str] = SET_BY_RECIPES,
) -> None:
    """Add a flag per field; flags that are not given leave no trace in the namespace.

    Args:
        parser: parser or group to add to.
        parts: settings dataclasses.
        defaults: what the help shows instead of the fields' own defaults.
        only: names of the fields to add (default: all).
        without: names of fields to leave out.
        renamed: fields to add, by the name they get here.
        turned_on: fields that a recipe sets; what is off without it can be turned off again.
    """
    for row in options.option_rows(*parts):
        wanted = renamed or only
        if (wanted is not None and row.name not in wanted) or row.name in without:
            continue
        name = renamed[row.name] if renamed else row.name
        default = (defaults or {}).get(row.name)
        shown = _default_text(row.name, parts) if default is None else options.as_typed(default)
        flags = [options.flag_of(name), *row.metadata["aliases"]]
        kwargs: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": row.metadata["help"] + (f" (default: {shown})" if shown else ""),
        }
        if row.type in (bool, bool | None):
            stays_off = row.default is False and row.name not in turned_on
            kwargs["action"] = "store_true" if stays_off else argparse.BooleanOptionalAction
        else:
            kwargs["type"] = _CONVERTERS[row.type]
            kwargs["metavar"] = _METAVARS.get(row.type, "WORD")
        parser.add_argument(*flags, **kwargs)


def _default_text(name: str, parts: Sequence[type]) -> str:
    """The default, or each algorithm's where they differ; nothing for what is off or unset."""
    by_part = {
        part.__name__.lower(): options.as_typed(row.default)
        for part in parts
        for row in options.option_rows(part)
        if row.name == name and row.default is not None and row.default is not False
    }
    if len(set(by_part.values())) > 1:
        return ", ".join(f"{part} {shown}" for part, shown in by_part.items())
    return next(iter(by_part.values()), "")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


_CONVERTERS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: float,
    float | None: float,
    str: str,
    str | None: str,
    float | str: _number_or_word,
    tuple[int, ...]: _sizes,
    tuple[str, ...]: _words,
}
_METAVARS: dict[Any, str] = {
    int: "N",
    float: "X",
    float | None: "X",
    tuple[int, ...]: "N,N",
    float | str: "X",
}
_sizes.__name__ = "layer sizes"  # argparse names the type in its messages


class _PrintDefaults(argparse.Action):
    """``--print-defaults``: every setting, its default and what recipes make of it, then exit."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        text = "print the defaults of every algorithm, and the recipes, and exit"
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=text)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(defaults_table())
        parser.exit()


def defaults_table() -> str:
    """Every setting, its default per algorithm, and what the recipe ``fast`` puts in its place."""
    rows = [["setting", *ALGORITHMS, "recipe fast"]]
    parts = (*ALGORITHMS.values(), SelectiveHER, FastSAC, *ENTROPY_MODES.values(), Run)
    for row in options.option_rows(*parts):
        if row.name == "recipe":  # what chooses the last column is no row
            continue
        cells = [_default_cell(row.name, algo) for algo in ALGORITHMS]
        replaced = RECIPES["fast"].get(row.name)
        rows.append([row.name, *cells, "" if replaced is None else options.as_typed(replaced)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "The recipe fast holds for sac --her on sparse Fetch tasks with the engine fast",
            *(f"(on {env_id} with {_listed(more)});" for env_id, more in FAST_ON.items()),
            "--recipe book leaves the defaults, which are the book's "
            f"(with --her {_listed(BOOK_HER)}).",
            "A flag wins over both.",
        ]
    )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {options.as_typed(value)}" for name, value in values.items())


def _default_cell(name: str, algo: str) -> str:
    hindsight = (SelectiveHER,) if config.fast_part(algo) else ()
    for row in options.option_rows(*config.parts_of(algo), *hindsight, Run):
        if row.name == name:
            return options.as_typed(row.default)
    return "-"

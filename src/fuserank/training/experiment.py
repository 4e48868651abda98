"""Experiment files: the options of training, the space that is tuned, how runs are judged."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from fuserank.errors import ConfigError
from fuserank.training.data.table_file import suggestion
from fuserank.training.data.toml_file import read_toml
from fuserank.training.train_config import TrainConfig

__all__ = [
    "RECIPES",
    "Choice",
    "EvaluateConfig",
    "Experiment",
    "Range",
    "Value",
    "find_experiment",
    "read_experiment",
    "recipe",
]

Value = str | int | float | bool
"""What an option may be."""

_T = TypeVar("_T")
_FOLDER = Path(__file__).parent / "recipes"
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
RECIPES = tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))
"""The names of the recipes that come with the package."""


@dataclass(frozen=True)
class Choice:
    """An option that is tuned takes one of these values."""

    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Range:
    """An option that is tuned takes a value from `low` to `high`.

    Attributes:
        low: the least value.
        high: the greatest value.
        log: whether the logarithm is spread evenly, rather than the value.
        whole: whether only whole numbers are taken, as the option's type demands.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError where there is nothing from `low` to `high`."""
        finite = math.isfinite(self.low) and math.isfinite(self.high)
        if not (finite and self.low < self.high):
            raise ConfigError(
                f"tune: found low = {self.low:g} and high = {self.high:g}, expected two finite "
                "numbers of which low is the lesser"
            )
        if self.log and self.low <= 0:
            raise ConfigError(f"tune: low is {self.low:g}, expected above 0 where log = true")
        if self.whole and not (self.low == int(self.low) and self.high == int(self.high)):
            raise ConfigError(
                f"tune: found low = {self.low:g} and high = {self.high:g}, expected whole numbers "
                "where whole = true"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How a configuration is judged.

    Attributes:
        seeds: runs, each with a seed, and so a split, of its own.
        baselines: whether baselines are judged beside them.
    """

    seeds: int = 1
    baselines: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigError where there would be no run."""
        if self.seeds < 1:
            raise ConfigError(f"evaluate: seeds is {self.seeds}, expected a whole number from 1")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A whole experiment file.

    Attributes:
        train: options of training.
        tune: options to tune, by name, and what they may be; empty where none is declared.
        evaluate: how it is judged.
    """

    train: TrainConfig = field(default_factory=TrainConfig)
    tune: Mapping[str, Choice | Range] = field(default_factory=dict)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def to_toml(self) -> str:
        """Return a file that `read_experiment` reads as this experiment, every option written."""
        sections = {
            "train": dataclasses.asdict(self.train),
            "tune": {name: _space_builtins(space) for name, space in self.tune.items()},
            "evaluate": dataclasses.asdict(self.evaluate),
        }
        return "\n".join(_toml_section(name, table) for name, table in sections.items() if table)


def find_experiment(name: str) -> Experiment:
    """Read the recipe of that name, or else the file.

    Raises:
        ConfigError: there is neither, or the file is wrong.
    """
    if name in RECIPES:
        return recipe(name)
    if not Path(name).suffix and not Path(name).exists():
        raise ConfigError(
            f"experiment: found neither a recipe nor a file {name!r}, expected a TOML file or one "
            f"of {', '.join(RECIPES)}{suggestion(name, RECIPES)}"
        )
    return read_experiment(Path(name))


def recipe(name: str) -> Experiment:
    """Read a recipe that comes with the package.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name not in RECIPES:
        raise ConfigError(
            f"recipe: found {name!r}, expected one of {', '.join(RECIPES)}"
            f"{suggestion(name, RECIPES)}"
        )
    return read_experiment(_FOLDER / f"{name}.toml")


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment file: ``[train]``, ``[tune]`` and ``[evaluate]``, all optional.

    Raises:
        ConfigError: the file is missing or malformed, or a key is unknown, of a wrong type or out
            of range.
    """
    top = _known(
        read_toml(path, "an experiment file", ConfigError),
        str(path),
        [f.name for f in dataclasses.fields(Experiment)],
    )
    return Experiment(
        train=_options(TrainConfig, path, "train", top.get("train", {})),
        tune=_space(path, top.get("tune", {})),
        evaluate=_options(EvaluateConfig, path, "evaluate", top.get("evaluate", {})),
    )


def _known(found: object, where: str, expected: Collection[str]) -> dict[str, Any]:
    """The table, once it is one and each of its keys is expected."""
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: found {found!r}, expected a table")
    for key in found:
        if key not in expected:
            raise ConfigError(
                f"{where}: found unknown key {key!r}, expected {', '.join(expected)}"
                f"{suggestion(key, expected)}"
            )
    return found


def _options(cls: type[_T], path: Path, section: str, found: object) -> _T:
    """A dataclass of options from its section, once each is known, of its type and in range."""
    hints, where = get_type_hints(cls), f"{path}, [{section}]"
    options = {
        key: _options(hints[key], path, f"{section}.{key}", value)
        if is_dataclass(hints[key])
        else _value(hints[key], f"{where}: {key}", value)
        for key, value in _known(found, where, hints).items()
    }
    try:
        return cls(**options)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _value(hint: Any, what: str, found: object) -> Any:
    try:
        return msgspec.convert(found, hint)
    except msgspec.ValidationError:
        is_choice = get_origin(hint) is Literal
        near = suggestion(found, get_args(hint)) if is_choice and isinstance(found, str) else ""
        raise ConfigError(f"{what} is {found!r}, expected {_described(hint)}{near}") from None


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) is tuple:
        return f"a list of {_described(get_args(hint)[0])}"
    return _NAMES[hint]


def _is_tunable(name: str, hint: Any) -> bool:
    """Whether trials may differ in an option: all are judged on one split of the same fields."""
    return name != "seed" and (hint in _NAMES or get_origin(hint) is Literal)


def _space(path: Path, found: object) -> dict[str, Choice | Range]:
    """What the options to tune may be, once training accepts every value of each by itself."""
    hints, where = get_type_hints(TrainConfig), f"{path}, [tune]"
    space: dict[str, Choice | Range] = {}
    for name, value in _known(found, where, hints).items():
        if not _is_tunable(name, hints[name]):
            raise ConfigError(
                f"{where}: found {name}, expected options that leave the split and the fields as "
                f"they are, so that trials compare; set {name} under [train]"
            )
        if isinstance(value, list):
            space[name] = _choice(hints[name], f"{where}: {name}", value)
        else:
            space[name] = _range(hints[name], path, name, value)
        for option in _ends(space[name]):
            try:
                TrainConfig(**cast(Any, {name: option}))
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from error
    return space


def _choice(hint: Any, what: str, found: list[object]) -> Choice:
    values = tuple(_value(hint, what, value) for value in found)
    if len(set(values)) < max(len(values), 2):
        raise ConfigError(f"{what} is {found!r}, expected two different values or more")
    return Choice(values)


def _range(hint: Any, path: Path, name: str, found: object) -> Range:
    what = f"{path}, [tune]: {name}"
    if not isinstance(found, dict):
        raise ConfigError(
            f"{what} is {found!r}, expected a list of values or a table such as "
            "{low = 0.1, high = 0.5}; a single value belongs under [train]"
        )
    if hint not in (int, float):
        raise ConfigError(f"{what} is {found!r}, expected a list of values")
    for key in ("low", "high"):
        if key not in found:
            raise ConfigError(f"{what}: found no key {key!r}; add it")
    span = _options(Range, path, f"tune.{name}", found)
    if span.whole != (hint is int):
        remedy = "add whole = true" if hint is int else "leave whole out"
        raise ConfigError(
            f"{what}: found whole = {json.dumps(span.whole)}, but {name} is "
            f"{_NAMES[hint]}; {remedy}"
        )
    return span


def _ends(space: Choice | Range) -> tuple[Value, ...]:
    """The values that are out of range where any is."""
    if isinstance(space, Choice):
        return space.values
    return (int(space.low), int(space.high)) if space.whole else (space.low, space.high)


def _space_builtins(space: Choice | Range) -> list[Value] | dict[str, Value]:
    return list(space.values) if isinstance(space, Choice) else dataclasses.asdict(space)


def _toml_section(name: str, table: Mapping[str, Any]) -> str:
    """A section and the sections inside it; a search space stays on its line."""
    inner = {
        key: value for key, value in table.items() if isinstance(value, dict) and name != "tune"
    }
    lines = [f"{key} = {_toml(value)}\n" for key, value in table.items() if key not in inner]
    nested = [f"\n{_toml_section(f'{name}.{key}', value)}" for key, value in inner.items()]
    return "".join([f"[{name}]\n", *lines, *nested])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)  # TOML writes text, numbers and truth as JSON does

"""The command line: a thin layer; each command lives beside its subject and is imported lazily."""

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cyclopts

from fuserank import __version__
from fuserank.errors import ConfigError, FuserankError

__all__ = ["app", "main"]


def _read_experiment(
    app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection
) -> None:
    """Take from --experiment the options of training that were not given otherwise."""
    experiment = arguments.get("--experiment", None)
    if experiment is not None and experiment.tokens:
        from fuserank.training.experiment import find_experiment

        name = experiment.tokens[0].value
        options = dataclasses.asdict(find_experiment(name).train)
        fill = cyclopts.config.Dict(options, source=name, use_commands_as_keys=False)
        fill(app, commands, arguments)


def _read_config(
    app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection
) -> None:
    """Take from the file that --config of the server names what was not given otherwise."""
    config = arguments.get("--config", None)
    if commands == ("serve",) and config is not None and config.tokens:
        path = config.tokens[0].value
        if not Path(path).is_file():
            raise ConfigError(f"config: found no file {path}, expected a TOML file with options")
        fill = cyclopts.config.Toml(path, use_commands_as_keys=False)
        fill(app, commands, arguments)


app = cyclopts.App(
    name="fuserank",
    help="Optimized inference engine for semantic recommenders.\n\n"
    "Every option can also be given by an environment variable, such as FUSERANK_SERVE_PORT for "
    "the option --port of 'serve'. Exit codes: 0 done, 1 failed, 2 usage.",
    version=__version__,
    # What comes first wins.
    config=(cyclopts.config.Env("FUSERANK_", command=True), _read_experiment, _read_config),
)

# Command, where it lives, what it does, an example. Nothing is imported before it is used.
_COMMANDS = {
    "data": (
        "fuserank.training.cli:data",
        "Fetch a data set.",
        "fuserank data movielens-100k",
    ),
    "train": (
        "fuserank.training.cli:train",
        "Train a ranker and judge it.",
        "fuserank train movielens-100k/dataset.toml minilm run --experiment movielens --dim 128",
    ),
    "tune": (
        "fuserank.training.cli:tune",
        "Try options of training and keep the best.",
        "fuserank tune shop/dataset.toml minilm tuned --experiment shop --trials 30",
    ),
    "evaluate": (
        "fuserank.training.cli:evaluate",
        "Judge a ranker over several seeds, beside baselines.",
        "fuserank evaluate movielens-100k/dataset.toml minilm judged --experiment movielens",
    ),
    "baselines": (
        "fuserank.training.cli:baselines",
        "Judge what any ranker has to beat.",
        "fuserank baselines movielens-100k/dataset.toml",
    ),
    "export": (
        "fuserank.export.cli:export",
        "Export encoders and rankers to ONNX and bundles.",
        "fuserank export encoder sentence-transformers/all-MiniLM-L6-v2 minilm",
    ),
    "inspect": (
        "fuserank.engine.cli:inspect",
        "Show what a bundle holds.",
        "fuserank inspect movielens.bundle",
    ),
    "verify": (
        "fuserank.engine.cli:verify",
        "Check a bundle and answer one request from it.",
        "fuserank verify movielens.bundle",
    ),
    "recommend": (
        "fuserank.engine.cli:recommend",
        "Recommend items to a user.",
        'fuserank recommend movielens.bundle profile="slow science fiction" history=50,172',
    ),
    "score": (
        "fuserank.engine.cli:score",
        "Score named items for a user.",
        "fuserank score movielens.bundle user_id=42 --items 50 --items 172",
    ),
    "encode": (
        "fuserank.engine.cli:encode",
        "Encode texts.",
        'fuserank encode movielens.bundle "a heist that goes wrong" --json',
    ),
    "serve": (
        "fuserank.server.cli:serve",
        "Serve a bundle over gRPC.",
        "fuserank serve movielens.bundle --port 8001",
    ),
    "admin": (
        "fuserank.server.client.admin_cli:admin",
        "List, load, promote and roll back the bundles of a running server.",
        "fuserank admin list --address 127.0.0.1:8001",
    ),
    "bench": (
        "fuserank.bench.cli:app",
        "Measure latency and throughput.",
        "fuserank bench movielens.bundle --json",
    ),
    "demo": (
        "fuserank.demo:demo",
        "MovieLens 100K from the data to measured latency.",
        "fuserank demo",
    ),
}
for _name, (_home, _help, _example) in _COMMANDS.items():
    app.command(_home, name=_name, help=f"{_help}\n\nExample: {_example}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 failed, 2 usage."""
    # TensorFlow prints to stderr while it is imported; what matters comes as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        result = app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            result_action="return_value",
        )
    except cyclopts.CycloptsError:
        return 2
    except FuserankError as error:
        print(f"fuserank: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("fuserank"):
            raise
        print(
            f"fuserank: this command needs the package {error.name!r}, which an extra brings: "
            "pip install 'fuserank[export,bench]'",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("fuserank: interrupted", file=sys.stderr)
        return 1
    return result if isinstance(result, int) else 0

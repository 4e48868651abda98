"""What the files of sentence-transformers say of a model: modules, pooling, limits and prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fuserank.engine.encoder_config import Pooling
from fuserank.errors import ExportError
from fuserank.export.pretrained.files import read_json

__all__ = ["DenseLayer", "Layout", "read_layout"]

_POOLINGS = {
    "mean": Pooling.MEAN,
    "cls": Pooling.CLS,
    "lasttoken": Pooling.LAST,
    "max": Pooling.MAX,
}
# Options of a Transformer module that change how texts are read or how the network runs, but for
# those below.
_RISKY_OPTIONS = (
    "config_args",
    "config_kwargs",
    "processing_kwargs",
    "processor_kwargs",
    "tokenizer_args",
)
_HARMLESS = {"padding_side", "model_max_length", "use_fast"}


@dataclass(frozen=True, kw_only=True)
class DenseLayer:
    """A Dense module: an activation of a linear map of the embedding.

    Attributes:
        folder: where its weights are.
        n_inputs: width of what it takes.
        n_outputs: width of what it makes.
        bias: whether it has one.
        activation: the torch class, with its module.
    """

    folder: Path
    n_inputs: int
    n_outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the files of a model say.

    Attributes:
        transformer: folder of the network and the tokenizer.
        pooling: how token vectors become one.
        width: of a token vector, where a file says so.
        head: what follows the pooling, in order.
        max_tokens: where a text is cut; None leaves it to the tokenizer.
        lower_case: whether texts are lower-cased first.
        include_prompt: whether the tokens of a prompt are pooled with the others.
        query_prompt: of texts about users.
        passage_prompt: of texts about items.
        dim: width to which embeddings are cut.
        is_bare: whether the files of sentence-transformers are missing.
    """

    transformer: Path
    pooling: Pooling
    width: int | None = None
    head: tuple[DenseLayer | Literal["Normalize"], ...] = ()
    max_tokens: int | None = None
    lower_case: bool = False
    include_prompt: bool = True
    query_prompt: str = ""
    passage_prompt: str = ""
    dim: int | None = None
    is_bare: bool = False


def read_layout(folder: Path) -> Layout:
    """Read the files of sentence-transformers, or what that library makes of a folder without them.

    Raises:
        ExportError: a file is broken, or asks for what cannot be exported.
    """
    if not (folder / "modules.json").is_file():
        return Layout(transformer=folder, pooling=_pooling_of_bare(folder), is_bare=True)
    modules = read_json(folder / "modules.json")
    kinds = [_kind(module["type"]) for module in modules]
    head_kinds = set(kinds[2:])
    if kinds[:2] != ["Transformer", "Pooling"] or head_kinds - {"Dense", "Normalize"}:
        wrong = next((kind for kind in kinds if kind not in _KINDS), None)
        raise ExportError(
            f"{folder / 'modules.json'}: found modules {kinds}, expected Transformer, Pooling and "
            "then any of Dense and Normalize; "
            + (f"{wrong!r} cannot be exported" if wrong else "in another order they cannot be run")
        )
    transformer, pooling = (folder / module["path"] for module in modules[:2])
    pooling_config = read_json(pooling / "config.json")
    general = read_json(folder / "config_sentence_transformers.json", {})
    query_prompt, passage_prompt = _prompts(general, folder)
    sentence = _transformer_options(transformer)
    return Layout(
        transformer=transformer,
        pooling=_read_pooling(pooling_config, pooling / "config.json"),
        width=pooling_config.get(
            "embedding_dimension", pooling_config.get("word_embedding_dimension")
        ),
        head=tuple(
            "Normalize" if kind == "Normalize" else _read_dense(folder / module["path"])
            for kind, module in zip(kinds[2:], modules[2:], strict=True)
        ),
        max_tokens=sentence.get("max_seq_length"),
        lower_case=sentence.get("do_lower_case", False),
        include_prompt=pooling_config.get("include_prompt", True),
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        dim=general.get("truncate_dim"),
    )


_KINDS = {"Transformer", "Pooling", "Dense", "Normalize"}


def _kind(path: str) -> str:
    """Return the name of a module of sentence-transformers; a foreign one keeps its whole path."""
    package, _, name = path.rpartition(".")
    return name if package.split(".")[0] == "sentence_transformers" else path


def _pooling_of_bare(folder: Path) -> Pooling:
    """Return what sentence-transformers pools by where nothing says how."""
    config = read_json(folder / "config.json")
    architectures = config.get("architectures") or [""]
    causal = architectures[0].endswith("ForCausalLM") and config.get("is_causal", True)
    return Pooling.LAST if causal else Pooling.MEAN


def _transformer_options(folder: Path) -> dict[str, Any]:
    """Read the options of the Transformer module."""
    # The file is named after the architecture in models of the first years.
    path = next(iter(sorted(folder.glob("sentence_*_config.json"))), None)
    options: dict[str, Any] = read_json(path) if path else {}
    for name in _RISKY_OPTIONS:
        if unknown := set(options.get(name) or {}) - _HARMLESS:
            raise ExportError(
                f"{path}: found {name} with {sorted(unknown)}, which cannot be exported; "
                "expected none"
            )
    if "message" in options.get("modality_config", {}):
        raise ExportError(
            f"{path}: found a model that reads texts as conversations (modality 'message'), "
            "expected one that reads them as they are"
        )
    return options


def _read_pooling(config: Mapping[str, Any], path: Path) -> Pooling:
    """Read either form: one `pooling_mode`, or a flag for each mode."""
    found = config.get("pooling_mode") or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, chosen in config.items()
        if key.startswith("pooling_mode_") and chosen
    ]
    modes = [found] if isinstance(found, str) else list(found)
    if len(modes) == 1 and modes[0] in _POOLINGS:
        return _POOLINGS[modes[0]]
    raise ExportError(f"{path}: found pooling {modes}, expected one of {', '.join(_POOLINGS)}")


def _read_dense(folder: Path) -> DenseLayer:
    path = folder / "config.json"
    config = read_json(path)
    if missing := {"in_features", "out_features"} - config.keys():
        raise ExportError(f"{path}: found no {min(missing)}, expected the sizes of a Dense module")
    for name in ("module_input_name", "module_output_name"):
        if config.get(name) not in (None, "sentence_embedding"):
            raise ExportError(
                f"{path}: found {name} {config[name]!r}, expected 'sentence_embedding'; a Dense "
                "module over tokens cannot be exported"
            )
    return DenseLayer(
        folder=folder,
        n_inputs=config["in_features"],
        n_outputs=config["out_features"],
        bias=config.get("bias", True),
        activation=config.get("activation_function", "torch.nn.modules.activation.Tanh"),
    )


def _prompts(general: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """Return the prompts of queries and of passages.

    They go by the names that sentence-transformers looks for. A name without words is the place
    that it keeps for one, and no prompt. A default prompt stands for a role that has none, unless
    it is the other role's.
    """
    prompts: Mapping[str, str] = general.get("prompts") or {}
    default: str | None = general.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ExportError(
            f"{folder / 'config_sentence_transformers.json'}: found default_prompt_name "
            f"{default!r}, expected one of {sorted(prompts)}"
        )

    def find(own: Sequence[str], others: Sequence[str]) -> str:
        names = [name for name in own if prompts.get(name)]
        if default is not None and default not in others:
            names.append(default)
        return (prompts[names[0]] or "") if names else ""

    queries, passages = ("query",), ("document", "passage", "corpus")
    return find(queries, passages), find(passages, queries)

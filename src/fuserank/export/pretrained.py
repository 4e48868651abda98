"""Reading pretrained text models: Hugging Face folders, with or without sentence-transformers.

A folder of sentence-transformers is read as that library reads it: pooling, normalisation, token
limit, lower-casing and default prompt. A bare folder gets what the library gives one: mean pooling,
no normalisation.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from fuserank.engine.encoder_config import Pooling
from fuserank.errors import ConfigError, ExportError

__all__ = ["SUPPORTED_MODEL_TYPES", "PretrainedEncoder", "load_pretrained"]

SUPPORTED_MODEL_TYPES = (
    "bert",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
# Their first position embedding belongs to the token after the padding index.
_OFFSET_POSITIONS = {"camembert", "mpnet", "roberta", "xlm-roberta"}
_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model")


@dataclass(frozen=True, kw_only=True)
class PretrainedEncoder:
    """A loaded model and how sentence-transformers would use it.

    Attributes:
        name: for people.
        folder: where it was read from.
        weights_folder: the folder of the transformer itself, which may be one below.
        model: transformers model in evaluation mode, fp32, eager attention.
        tokenizer: fast transformers tokenizer.
        pooling: how token vectors become one.
        normalized: whether embeddings get unit length.
        max_tokens: where a text is cut, special tokens included.
        prompt: stands before each text.
    """

    name: str
    folder: Path
    weights_folder: Path
    model: Any
    tokenizer: Any
    pooling: Pooling
    normalized: bool
    max_tokens: int
    prompt: str


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What the files of sentence-transformers say."""

    transformer: Path
    pooling: Pooling = Pooling.MEAN
    normalized: bool = False
    max_tokens: int | None = None
    lower_case: bool = False
    prompt: str = ""


def load_pretrained(
    model: str | Path, *, pooling: Pooling | None = None, max_tokens: int | None = None
) -> PretrainedEncoder:
    """Load a model of the BERT family.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        pooling: instead of the model's own.
        max_tokens: instead of the model's own limit.

    Raises:
        ExportError: there is no such model, or it cannot be exported; says why.
        ConfigError: more tokens than the model has positions for.
    """
    folder = _locate(model)
    layout = _read_layout(folder)
    _check_files(layout.transformer)
    with _quiet_transformers():
        network = _load_network(layout.transformer)
        tokenizer = _load_tokenizer(layout.transformer)
    if layout.lower_case:
        backend = tokenizer.backend_tokenizer
        own = [backend.normalizer] if backend.normalizer else []
        backend.normalizer = NormalizerSequence([Lowercase(), *own])
    positions = network.config.max_position_embeddings
    if network.config.model_type in _OFFSET_POSITIONS:
        positions -= network.config.pad_token_id + 1
    if max_tokens is not None and max_tokens > positions:
        raise ConfigError(
            f"max_tokens: found {max_tokens}, expected at most {positions}: "
            f"model {str(model)!r} has no more positions"
        )
    own_limit = layout.max_tokens or tokenizer.model_max_length
    return PretrainedEncoder(
        name=folder.name if Path(model).is_dir() else str(model),
        folder=folder,
        weights_folder=layout.transformer,
        model=network,
        tokenizer=tokenizer,
        pooling=pooling or layout.pooling,
        normalized=layout.normalized,
        max_tokens=max_tokens or min(own_limit, positions),
        prompt=layout.prompt,
    )


def _locate(model: str | Path) -> Path:
    """Return the folder of a model, fetched from the hub where it is not a local one."""
    if (folder := Path(model).expanduser()).is_dir():
        return folder.resolve()
    if isinstance(model, Path) or folder.is_absolute():
        raise ExportError(
            f"model {str(model)!r}: no such folder; pass a local folder or a hub name"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=list(_FETCHED)))
    except (OSError, ValueError) as error:  # what every fault of the hub client derives from
        raise ExportError(
            f"model {model!r}: no such folder, and the hub does not supply it "
            f"({_first_line(error)}); pass a local folder"
        ) from error


def _read_layout(folder: Path) -> _Layout:
    if not (folder / "modules.json").is_file():
        return _Layout(transformer=folder)
    modules = _read_json(folder / "modules.json")
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ExportError(
            f"{folder / 'modules.json'}: found modules {kinds}, expected Transformer, Pooling and "
            "perhaps Normalize; other modules cannot be exported"
        )
    transformer, pooling = (folder / module["path"] for module in modules[:2])
    pooling_config = _read_json(pooling / "config.json")
    general = _read_json(folder / "config_sentence_transformers.json", {})
    prompt = general.get("prompts", {}).get(general.get("default_prompt_name"), "")
    if prompt and not pooling_config.get("include_prompt", True):
        raise ExportError(
            f"{pooling / 'config.json'}: found include_prompt false with a default prompt; "
            "pooling without the prompt cannot be exported"
        )
    # The file is named after the architecture in models of the first years.
    sentence_config = next(iter(sorted(transformer.glob("sentence_*_config.json"))), None)
    sentence = _read_json(sentence_config) if sentence_config else {}
    return _Layout(
        transformer=transformer,
        pooling=_read_pooling(pooling_config, pooling / "config.json"),
        normalized=len(kinds) == 3,
        max_tokens=sentence.get("max_seq_length"),
        lower_case=sentence.get("do_lower_case", False),
        prompt=prompt,
    )


def _read_pooling(config: dict[str, Any], path: Path) -> Pooling:
    """Read either form: one `pooling_mode`, or a flag for each mode."""
    found = config.get("pooling_mode") or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, chosen in config.items()
        if key.startswith("pooling_mode_") and chosen
    ]
    modes = [found] if isinstance(found, str) else list(found)
    if len(modes) == 1 and modes[0] in set(Pooling):
        return Pooling(modes[0])
    raise ExportError(f"{path}: found pooling {modes}, expected one of {', '.join(Pooling)}")


def _check_files(folder: Path) -> None:
    """Raise before anything heavy is loaded where the folder holds no model we can export."""
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type not in SUPPORTED_MODEL_TYPES:
        raise ExportError(
            f"{folder / 'config.json'}: found model_type {model_type!r}, expected one of "
            f"{', '.join(SUPPORTED_MODEL_TYPES)}"
        )
    if not any(folder.glob("*.safetensors")):
        raise ExportError(
            f"{folder}: found no weights in safetensors form; pickled weights (*.bin) can run "
            "code and are refused: save the model again with safe_serialization=True"
        )


def _load_network(folder: Path) -> Any:
    transformers = _import_transformers()
    import torch
    from safetensors import SafetensorError

    try:
        network, info = transformers.AutoModel.from_pretrained(
            folder,
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ExportError(f"{folder}: the model does not load: {_first_line(error)}") from error
    # The pooler of BERT is not used. Anything else that is missing would be random.
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise ExportError(
            f"{folder}: the weights lack {len(missing)} tensors of the model, such as "
            f"{missing[0]!r}; fetch or save the model again"
        )
    return network.eval()


def _load_tokenizer(folder: Path) -> Any:
    try:
        tokenizer = _import_transformers().AutoTokenizer.from_pretrained(
            folder, use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # tokenizers and transformers raise bare exceptions
        raise ExportError(f"{folder}: the tokenizer does not load: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ExportError(
            f"{folder}: found only a slow tokenizer ({type(tokenizer).__name__}); "
            "expected a fast one with a tokenizer.json"
        )
    return tokenizer


def _read_json(path: Path, default: dict[str, Any] | None = None) -> Any:
    if default is not None and not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(f"{path}: missing; expected a folder with a pretrained model") from None
    except ValueError as error:
        raise ExportError(f"{path}: expected JSON, found: {error}") from error


def _import_transformers() -> Any:
    """Import transformers so that it leaves TensorFlow alone: only torch models are read."""
    unset = "USE_TF" not in os.environ
    os.environ.setdefault("USE_TF", "0")
    try:
        import transformers
    finally:
        if unset:
            del os.environ["USE_TF"]
    return transformers


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hold back remarks on weights that are not used, such as those of a pooler."""
    logging = _import_transformers().utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]

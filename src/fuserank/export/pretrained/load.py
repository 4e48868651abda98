"""Loading pretrained text models: network, tokenizer and what sentence-transformers adds.

A folder of sentence-transformers is read as that library reads it: modules, token limit,
lower-casing, prompts and truncation. A bare folder gets what the library gives one: mean pooling,
or the last token of a causal language model, and no normalisation.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from fuserank.engine.encoder_config import Pooling
from fuserank.errors import ConfigError, ExportError
from fuserank.export.pretrained.architectures import ARCHITECTURES, Architecture
from fuserank.export.pretrained.files import find_weights, read_json
from fuserank.export.pretrained.layout import Layout, read_layout

__all__ = ["PretrainedEncoder", "load_pretrained"]

_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model")
# Their angles depend on how long the texts at hand are, which a traced graph does not see.
_ROPES_BY_LENGTH = {"dynamic", "longrope"}


@dataclass(frozen=True, kw_only=True)
class PretrainedEncoder:
    """A loaded model and how sentence-transformers would use it.

    Attributes:
        name: for people.
        folder: where it was read from.
        weights_folder: the folder of the transformer itself, which may be one below.
        model: transformers model in evaluation mode, fp32, eager attention.
        tokenizer: fast transformers tokenizer, which pads on the right.
        architecture: what the model is.
        pooling: how token vectors become one.
        head: torch module of what follows the pooling; it has no part in fine-tuning.
        dim: width of an embedding.
        normalized: whether embeddings get unit length.
        max_tokens: where a text is cut, special tokens included.
        query_prompt: stands before each text about a user.
        passage_prompt: stands before each text about an item.
    """

    name: str
    folder: Path
    weights_folder: Path
    model: Any
    tokenizer: Any
    architecture: Architecture
    pooling: Pooling
    head: Any
    dim: int
    normalized: bool
    max_tokens: int
    query_prompt: str
    passage_prompt: str


def load_pretrained(
    model: str | Path,
    *,
    pooling: Pooling | None = None,
    max_tokens: int | None = None,
    dim: int | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
    allow_pickle: bool = False,
) -> PretrainedEncoder:
    """Load a text encoder of a supported architecture.

    Args:
        model: a folder, or a name on the Hugging Face hub.
        pooling: instead of the model's own.
        max_tokens: instead of the model's own limit.
        dim: width to which embeddings are cut, instead of the model's own.
        query_prompt: instead of the model's own.
        passage_prompt: instead of the model's own.
        allow_pickle: whether weights may be pickled; then torch reads tensors from them alone.

    Raises:
        ExportError: there is no such model, or it cannot be exported; says why.
        ConfigError: more tokens than the model has positions for, or a larger `dim` than it has.
    """
    folder = _locate(model, allow_pickle=allow_pickle)
    layout = read_layout(folder)
    asked: dict[str, Any] = {
        "pooling": pooling,
        "dim": dim,
        "query_prompt": query_prompt,
        "passage_prompt": passage_prompt,
    }
    layout = replace(layout, **{name: value for name, value in asked.items() if value is not None})
    _check_layout(layout)
    network = _load_network(layout.transformer, allow_pickle=allow_pickle)
    tokenizer = _load_tokenizer(layout, network.config)
    from fuserank.export.pretrained.head import load_head

    head, width = load_head(
        layout.head, network.config.hidden_size, layout.dim, allow_pickle=allow_pickle
    )
    return PretrainedEncoder(
        name=folder.name if Path(model).is_dir() else str(model),
        folder=folder,
        weights_folder=layout.transformer,
        model=network,
        tokenizer=tokenizer,
        architecture=ARCHITECTURES[network.config.model_type],
        pooling=layout.pooling,
        head=head,
        dim=width,
        normalized=layout.head[-1:] == ("Normalize",),
        max_tokens=_max_tokens(network.config, layout, tokenizer, max_tokens),
        query_prompt=layout.query_prompt,
        passage_prompt=layout.passage_prompt,
    )


def _locate(model: str | Path, *, allow_pickle: bool) -> Path:
    """Return the folder of a model, fetched from the hub where it is not a local one."""
    if (folder := Path(model).expanduser()).is_dir():
        return folder.resolve()
    if isinstance(model, Path) or folder.is_absolute():
        raise ExportError(
            f"model {str(model)!r}: no such folder; pass a local folder or a hub name"
        )
    from huggingface_hub import snapshot_download

    patterns = [*_FETCHED, *(["*.bin"] if allow_pickle else [])]
    try:
        return Path(snapshot_download(model, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # what every fault of the hub client derives from
        raise ExportError(
            f"model {model!r}: no such folder, and the hub does not supply it "
            f"({_summary(error)}); pass a local folder"
        ) from error


def _check_layout(layout: Layout) -> None:
    """Raise before anything heavy is loaded where there is no model that can be exported."""
    path = layout.transformer / "config.json"
    config = read_json(path)
    if (model_type := config.get("model_type")) not in ARCHITECTURES:
        raise ExportError(
            f"{path}: found model_type {model_type!r}, expected one of {', '.join(ARCHITECTURES)}"
        )
    if "AutoModel" in config.get("auto_map", {}):
        raise ExportError(
            f"{path}: found a model with code of its own ({config['auto_map']['AutoModel']}), "
            f"expected {model_type} as transformers has it; code of a model is not run"
        )
    scaling = config.get("rope_scaling") or {}
    if (rope := scaling.get("rope_type", scaling.get("type"))) in _ROPES_BY_LENGTH:
        raise ExportError(
            f"{path}: found rotary embeddings of type {rope!r}, which depend on the length of the "
            "batch and cannot be exported; choose another model"
        )
    if layout.width not in (None, width := config.get("hidden_size", config.get("dim"))):
        raise ExportError(
            f"{path}: found a hidden_size of {width}, expected {layout.width} as the Pooling "
            "module's config.json says; save the model again"
        )
    if not layout.include_prompt and (layout.query_prompt or layout.passage_prompt):
        raise ExportError(
            f"{path.parent}: found a Pooling module with include_prompt false and a prompt; "
            "pooling without the prompt cannot be exported: set both prompts to ''"
        )


def _load_network(folder: Path, *, allow_pickle: bool) -> Any:
    safe = find_weights(folder, allow_pickle=allow_pickle)
    import torch

    try:
        with _quiet_transformers() as transformers:
            network, info = transformers.AutoModel.from_pretrained(
                folder,
                attn_implementation="eager",
                dtype=torch.float32,
                use_safetensors=safe,
                weights_only=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # what torch raises for a damaged pickle has no common class
        raise ExportError(f"{folder}: the model does not load: {_summary(error)}") from error
    # The pooler of BERT is not used. Anything else that is missing would be random.
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise ExportError(
            f"{folder}: the weights lack {len(missing)} tensors of the model, such as "
            f"{missing[0]!r}; fetch or save the model again"
        )
    return network.eval()


def _load_tokenizer(layout: Layout, config: Any) -> Any:
    folder = layout.transformer
    try:
        with _quiet_transformers() as transformers:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, use_fast=True, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # tokenizers and transformers raise bare exceptions
        raise ExportError(f"{folder}: the tokenizer does not load: {_summary(error)}") from error
    _check_tokenizer(tokenizer, layout, config)
    if layout.lower_case:
        backend = tokenizer.backend_tokenizer
        own = [backend.normalizer] if backend.normalizer else []
        backend.normalizer = NormalizerSequence([Lowercase(), *own])
    tokenizer.padding_side = "right"
    return tokenizer


def _check_tokenizer(tokenizer: Any, layout: Layout, config: Any) -> None:
    """Refuse what the engine does not do as sentence-transformers does it."""
    folder = layout.transformer
    if not tokenizer.is_fast:
        raise ExportError(
            f"{folder}: found only a slow tokenizer ({type(tokenizer).__name__}); "
            "expected a fast one with a tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        raise ExportError(
            f"{folder}: found a tokenizer without padding token, expected one; name one as "
            "pad_token in tokenizer_config.json"
        )
    if len(tokenizer) > config.vocab_size:
        raise ExportError(
            f"{folder}: found a tokenizer of {len(tokenizer):,} tokens, expected at most "
            f"{config.vocab_size:,}, which the model has embeddings for; save both together"
        )
    offset = ARCHITECTURES[config.model_type].offset_positions
    if offset and tokenizer.pad_token_id != config.pad_token_id:
        raise ExportError(
            f"{folder}: found a tokenizer that pads with token {tokenizer.pad_token_id}, expected "
            f"{config.pad_token_id}, by which the model counts positions; make them agree"
        )
    if tokenizer.truncation_side != "right":
        raise ExportError(
            f"{folder}: found a tokenizer that cuts the beginning of long texts, expected one that "
            "cuts the end; set truncation_side in tokenizer_config.json"
        )
    if layout.is_bare and tokenizer.chat_template is not None:
        raise ExportError(
            f"{folder}: found a model for conversations (its tokenizer has a chat template), "
            "expected a text encoder; give it a modules.json with a Pooling module"
        )


def _max_tokens(config: Any, layout: Layout, tokenizer: Any, asked: int | None) -> int:
    positions: int = config.max_position_embeddings
    if ARCHITECTURES[config.model_type].offset_positions:
        positions -= config.pad_token_id + 1
    if asked is not None and asked > positions:
        raise ConfigError(
            f"max_tokens: found {asked}, expected at most {positions}: "
            f"model {layout.transformer.name!r} has no more positions"
        )
    own_limit: int = layout.max_tokens or tokenizer.model_max_length
    return asked or min(own_limit, positions)


@contextmanager
def _quiet_transformers() -> Iterator[Any]:
    """Import transformers, and hold back remarks on weights that are not used (a pooler's)."""
    unset = "USE_TF" not in os.environ
    os.environ.setdefault("USE_TF", "0")  # it would import TensorFlow: only torch models are read
    try:
        import transformers
    finally:
        if unset:
            del os.environ["USE_TF"]
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield transformers
    finally:
        logging.set_verbosity(before)


def _summary(error: Exception) -> str:
    """Return the first lines of a message: where a tensor has the wrong shape, the second says."""
    return " ".join(" ".join(str(error).strip().split("\n", 2)[:2]).split())[:500]

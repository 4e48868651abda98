"""What turns texts into embeddings: the encoder of this package, and its peers."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from fuserank.engine.encoder import TextEncoder
from fuserank.engine.encoder_config import MODEL_FILE, TOKENIZER_FILE, EncoderConfig
from fuserank.engine.text_batches import token_batches

__all__ = [
    "REFERENCE",
    "System",
    "fastembed",
    "naive",
    "openvino_int8",
    "ours",
    "peers",
    "sentence_transformers",
    "token_lengths",
]

FloatArray = npt.NDArray[np.float32]
Tokens = Sequence[Sequence[int]]
Encode = Callable[[list[str]], FloatArray]

REFERENCE = "sentence-transformers, torch"

_NAIVE_BATCH = 32
_PEER_BATCH = 32
"""The default of sentence-transformers, which sorts texts by length before it divides them."""
_OPENVINO_TOKENS, _OPENVINO_SPARE = 1024, 64
"""Of a batch: faster for it than 256 and 4, which suit the graph of this package."""
_CALIBRATION_TEXTS = 300


@dataclass(frozen=True)
class System:
    """One way to embed texts.

    Attributes:
        name: for reports.
        encode: many texts, as fast as it can, to (n, dim) float32.
        encode_one: a list of one text, as soon as it can.
    """

    name: str
    encode: Encode
    encode_one: Encode


def ours(encoder: TextEncoder) -> System:
    """The encoder of this package, which keeps no embeddings."""

    def encode(texts: list[str]) -> FloatArray:
        return encoder.encode(texts).vectors

    return System(f"fuserank {encoder.config.precision}", encode, encode)


def naive(directory: Path, config: EncoderConfig, threads: int) -> System:
    """The same graph as anyone would run it: batches of 32 in the order of the texts, padded."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        directory / MODEL_FILE, options, providers=["CPUExecutionProvider"]
    )
    names = {value.name for value in session.get_inputs()}
    tokenizer = _tokenizer(directory, config)

    def encode(texts: list[str]) -> FloatArray:
        parts = []
        for start in range(0, len(texts), _NAIVE_BATCH):
            tokens = _tokens(tokenizer, texts[start : start + _NAIVE_BATCH])
            inputs = _padded(tokens, config.pad_token_id)
            parts.append(session.run(None, {n: v for n, v in inputs.items() if n in names})[0])
        return np.concatenate(parts)

    return System("the same graph, naive", encode, encode)


def peers(
    model: Path, directory: Path, config: EncoderConfig, texts: list[str], threads: int
) -> tuple[list[System], list[str]]:
    """Return the peers that are installed, and the names of the others.

    Args:
        model: folder of the pretrained model, as sentence-transformers reads it.
        directory: of the exported encoder, whose tokenizer peers without one use.
        config: of that encoder.
        texts: what a peer may calibrate with.
        threads: of each.
    """
    makers: dict[tuple[str, ...], Callable[[], System]] = {
        ("sentence_transformers",): lambda: sentence_transformers(model, "torch", threads),
        ("sentence_transformers", "optimum"): lambda: sentence_transformers(model, "onnx", threads),
        ("fastembed", "optimum"): lambda: fastembed(model, config, threads),
        ("openvino", "nncf"): lambda: openvino_int8(model, directory, config, texts, threads),
    }
    found, missing = [], []
    for packages, make in makers.items():
        if all(map(find_spec, packages)):
            found.append(make())
        else:
            missing.append(" with ".join(packages))
    return found, missing


def sentence_transformers(model: Path, backend: str, threads: int, device: str = "cpu") -> System:
    """The reference library, on PyTorch or on ONNX Runtime."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    options: dict[str, Any] = {}
    if backend == "onnx":
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = threads
        options = {"provider": "CPUExecutionProvider", "session_options": session_options}
    loaded = SentenceTransformer(str(model), backend=backend, device=device, model_kwargs=options)

    def encode(texts: list[str]) -> FloatArray:
        vectors: FloatArray = loaded.encode(
            texts, batch_size=_PEER_BATCH, show_progress_bar=False, normalize_embeddings=True
        )
        return vectors

    return System(f"sentence-transformers, {backend}", encode, encode)


def fastembed(model: Path, config: EncoderConfig, threads: int) -> System:
    """FastEmbed, on the fp32 graph that it would download: Optimum's export of the same model."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    # It reads the graph when it is made, so that the folder need not outlive that.
    with tempfile.TemporaryDirectory() as folder:
        ORTModelForFeatureExtraction.from_pretrained(model, export=True).save_pretrained(folder)
        AutoTokenizer.from_pretrained(model).save_pretrained(folder)
        TextEmbedding.add_custom_model(
            model=config.model,
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(url="file:///nowhere"),
            dim=config.dim,
            model_file="model.onnx",
        )
        loaded = TextEmbedding(
            config.model,
            specific_model_path=folder,
            threads=threads,
            providers=["CPUExecutionProvider"],
        )

    def encode(texts: list[str]) -> FloatArray:
        return np.stack(list(loaded.embed(texts, batch_size=_PEER_BATCH)))

    return System("FastEmbed", encode, encode)


def openvino_int8(
    model: Path, directory: Path, config: EncoderConfig, texts: list[str], threads: int
) -> System:
    """OpenVINO, quantized to int8 by NNCF, mean pooling: many texts in streams, one text alone.

    It is given batches by length, which `sentence-transformers` would not give it.
    """
    import openvino

    tokenizer = _tokenizer(directory, config)

    def inputs(tokens: Tokens) -> dict[str, npt.NDArray[np.int64]]:
        padded = _padded(tokens, config.pad_token_id)
        return {name: padded[name] for name in ("input_ids", "attention_mask")}

    quantized = _quantized(model, [inputs([ids]) for ids in _tokens(tokenizer, texts)])
    hints = {"INFERENCE_NUM_THREADS": threads}
    core = openvino.Core()
    alone = core.compile_model(quantized, "CPU", {"PERFORMANCE_HINT": "LATENCY", **hints})
    streams = core.compile_model(quantized, "CPU", {"NUM_STREAMS": threads, **hints})

    def encode(texts: list[str]) -> FloatArray:
        tokens = _tokens(tokenizer, texts)
        vectors = np.empty((len(texts), config.dim), np.float32)

        def keep(request: Any, rows: npt.NDArray[np.intp]) -> None:
            vectors[rows] = request.get_output_tensor(0).data

        queue = openvino.AsyncInferQueue(streams, threads)
        queue.set_callback(keep)
        lengths = [len(ids) for ids in tokens]
        for rows in token_batches(lengths, _OPENVINO_TOKENS, _OPENVINO_SPARE):
            queue.start_async(inputs([tokens[row] for row in rows]), rows)
        queue.wait_all()
        return vectors

    def encode_one(texts: list[str]) -> FloatArray:
        found: FloatArray = alone(inputs(_tokens(tokenizer, texts)))[0]
        return found

    return System("OpenVINO int8 (NNCF)", encode, encode_one)


def _quantized(model: Path, samples: Sequence[Mapping[str, Any]]) -> Any:
    """Convert a transformers model with its pooling, and quantize it after training."""
    import nncf
    import openvino
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = AutoModel.from_pretrained(model, attn_implementation="eager").eval()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.network(input_ids, attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(mean)

    example = torch.ones(2, 8, dtype=torch.int64)
    converted = openvino.convert_model(
        Pooled().eval(), example_input={"input_ids": example, "attention_mask": example}
    )
    chosen = samples[:: -(-len(samples) // _CALIBRATION_TEXTS)]
    with tempfile.TemporaryDirectory() as folder:
        quantized = nncf.quantize(
            converted,
            nncf.Dataset(chosen),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(chosen),
        )
        # What was quantized in memory runs slower than what is read from a file.
        openvino.save_model(quantized, path := Path(folder) / "quantized.xml")
        return openvino.Core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())


def token_lengths(directory: Path, config: EncoderConfig, texts: list[str]) -> list[int]:
    """Return the tokens of each text, the special ones included."""
    return [len(ids) for ids in _tokens(_tokenizer(directory, config), texts)]


def _tokenizer(directory: Path, config: EncoderConfig) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.enable_truncation(config.max_tokens)
    return tokenizer


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def _padded(tokens: Tokens, pad_token_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return the three inputs of a BERT: (texts, tokens) int64."""
    shape = (len(tokens), max(map(len, tokens)))
    input_ids = np.full(shape, pad_token_id, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, ids in enumerate(tokens):
        input_ids[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    types = np.zeros(shape, np.int64)
    return {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": types}

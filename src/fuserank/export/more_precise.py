"""An encoder again, with the products that cost it most left in fp32."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fuserank.engine.encoder_config import (
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    EncoderConfig,
    Precision,
)
from fuserank.export.calibration import calibration_batches
from fuserank.export.precision import products, sensitivity, write_precision

__all__ = ["more_precise"]

_SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of a graph's products: fp32 is there for what needs more."""
_JUDGED = 24
"""Texts by which products are ordered."""


def more_precise(
    encoder: Path, reference: Path, texts: Sequence[str], work: Path
) -> Iterator[Path]:
    """Yield encoders that come nearer to the reference and are slower, made as they are asked for.

    Args:
        encoder: directory of one that costs too much.
        reference: directory of the fp32 export that it was made of.
        texts: such as it will embed.
        work: a directory to write them below.
    """
    config = EncoderConfig.load(encoder)
    source = reference / MODEL_FILE
    n_products = len(products(source))
    if config.precision in {Precision.FP32, Precision.FP16, Precision.BF16} or not n_products:
        return
    batches = calibration_batches(reference, config, texts)
    ordered = list(sensitivity(source, batches[:_JUDGED], config.precision))
    for share in _SHARES:
        keep = sorted(ordered[: max(round(n_products * share), 1)])
        directory = work / f"{config.precision}-{len(keep)}-of-{n_products}-kept"
        directory.mkdir()
        write_precision(source, directory / MODEL_FILE, config.precision, keep, batches)
        shutil.copy(encoder / TOKENIZER_FILE, directory)
        (directory / CONFIG_FILE).write_text(
            replace(config, kept=tuple(keep)).to_json(), encoding="utf-8"
        )
        yield directory

"""The bundle: a directory that joins encoder, graphs, schema and catalogue; the only contract."""

from fuserank.bundle import layout
from fuserank.bundle.id_index import IdIndex
from fuserank.bundle.manifest import (
    FORMAT_VERSION,
    CodesInfo,
    EncoderInfo,
    FileInfo,
    GraphInfo,
    Manifest,
    ScorerInfo,
    ScorerKind,
)
from fuserank.bundle.ragged import Ragged, Strings
from fuserank.bundle.read import Bundle
from fuserank.bundle.write import BundleWriter, write_bundle

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "BundleWriter",
    "CodesInfo",
    "EncoderInfo",
    "FileInfo",
    "GraphInfo",
    "IdIndex",
    "Manifest",
    "Ragged",
    "ScorerInfo",
    "ScorerKind",
    "Strings",
    "layout",
    "write_bundle",
]

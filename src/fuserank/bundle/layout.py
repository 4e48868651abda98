"""Names of the files in a bundle: they occur here alone."""

__all__ = [
    "ATTRIBUTES",
    "ENCODER",
    "GRAPHS",
    "HISTORY",
    "ITEM_IDS",
    "MANIFEST",
    "NUMBER_ROWS",
    "QUALITY",
    "SCHEMA",
    "SEEN",
    "USER_IDS",
    "WEIGHTS",
    "column",
    "item_codes",
    "item_state",
    "item_vectors",
    "layer",
    "user_tensor",
]

MANIFEST = "manifest.json"
SCHEMA = "schema.json"
QUALITY = "quality.json"

ENCODER = "encoder"
"""Directory of the text encoder: graph, tokenizer, configuration."""

GRAPHS = {
    "full": "interaction/full.onnx",
    "user": "interaction/user.onnx",
    "item": "interaction/item.onnx",
    "joint": "interaction/joint.onnx",
    "select": "interaction/select.onnx",
}
WEIGHTS = "interaction/weights.npy"

ITEM_IDS = "catalogue/ids"
ATTRIBUTES = "catalogue/attributes"
NUMBER_ROWS = "catalogue/columns/number_rows.npy"
"""Where each of the numbers in the columns of attributes stands."""

USER_IDS = "users/ids"
SEEN = "users/seen"
"""Catalogue rows each user has met: never recommended again unless asked for."""
HISTORY = "users/history"
"""Catalogue rows each user has chosen, the most recent last."""


def layer(index: int, what: str) -> str:
    """File of the ``weights`` or the ``bias`` of a layer behind a perceptron's first."""
    return f"interaction/layers/{index}.{what}.npy"


def item_state(name: str) -> str:
    """File of one item state."""
    return f"catalogue/states/{name}.npy"


def item_codes(name: str) -> str:
    """File of one array of the int8 codes of the item states."""
    return f"catalogue/codes/{name}.npy"


def column(what: str) -> str:
    """What all columns of attributes have of one kind, such as their ``names``."""
    return f"catalogue/columns/{what}"


def item_vectors(field: str) -> str:
    """File of the vectors by which histories represent items."""
    return f"catalogue/vectors/{field}.npy"


def user_tensor(name: str) -> str:
    """File of one input of the user graph, for all stored users."""
    return f"users/tensors/{name}.npy"

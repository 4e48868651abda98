"""How a ranker is trained."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from fuserank.errors import ConfigError
from fuserank.training.splits import SplitConfig

__all__ = ["FusionName", "Model", "MseOn", "TrainConfig"]

Model = Literal[
    "perceptron",
    "bilinear",
    "bilinear-matrix",
    "gmf",
    "two-tower",
    "deep-perceptron",
    "neumf",
    "finalmlp",
    "fm",
    "fwfm",
    "wide-and-deep",
    "deepfm",
    "dcn",
    "autoint",
    "masknet",
]
FusionName = Literal["concat", "weighted", "attention", "channel"]
MseOn = Literal["probability", "logit"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of one training run.

    Attributes:
        model: the interaction model.
        fusion: how the sources of a side are weighed and joined.
        dim: width of φ and ψ, and of the wider sources.
        hidden: units of the first hidden layer, in models that have one.
        depth: hidden layers of deep models, each half as wide as the one before; cross layers.
        learning_rate: of Adam.
        mse_weight: λ, the weight of the squared error beside the cross-entropy.
        mse_on: whether the squared error is that of the probability (Brier score) or, to the
            letter of the method, of the logit, which squeezes probabilities.
        weight_decay: share of every weight but biases that a step removes, times the learning
            rate.
        epochs: passes over the positives at most.
        batch_size: positives a step.
        negatives: items the user has not interacted with, drawn for each positive.
        negative_weight: weight of a drawn item in the loss, where the positive weighs 1; less
            than 1 brings probabilities nearer to those of items that users chose to rate.
        dislike_weight: weight of an observed negative, a rating below the data set's threshold;
            one is drawn for each positive.
        id_dropout: share of ids, on both sides, that training hides, so that texts and
            attributes learn to carry those never seen.
        cold_dropout: share of users of whom training hides everything but the history.
        short_history: share of histories that training cuts to an excerpt of one to five events.
        visitors: share of positives for which training takes the user for a visitor who says
            what they look for: everything is hidden, and the history is one other item that is
            much like the positive.
        patience: epochs without a better validation NDCG@10 after which training ends.
        seed: of the split, the initial weights and everything drawn while training.
        split: which interactions train, validate and test.
    """

    model: Model = "perceptron"
    fusion: FusionName = "concat"
    dim: int = 64
    hidden: int = 64
    depth: int = 2
    learning_rate: float = 0.01
    mse_weight: float = 0.1
    mse_on: MseOn = "probability"
    weight_decay: float = 0.01
    epochs: int = 30
    batch_size: int = 1024
    negatives: int = 16
    negative_weight: float = 0.25
    dislike_weight: float = 0.1
    id_dropout: float = 0.1
    cold_dropout: float = 0.2
    short_history: float = 0.2
    visitors: float = 0.2
    patience: int = 3
    seed: int = 42
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is out of range."""
        self._one_of("model", get_args(Model))
        self._one_of("fusion", get_args(FusionName))
        self._one_of("mse_on", get_args(MseOn))
        for name in ("dim", "hidden", "depth", "epochs", "batch_size", "negatives", "patience"):
            self._check(name, "a whole number from 1", getattr(self, name) >= 1)
        self._check("learning_rate", "a number above 0", self.learning_rate > 0)
        for name in ("mse_weight", "weight_decay", "negative_weight", "dislike_weight", "seed"):
            self._check(name, "0 or more", getattr(self, name) >= 0)
        for name in ("id_dropout", "cold_dropout", "short_history", "visitors"):
            self._check(name, "a share from 0 to 1", 0 <= getattr(self, name) <= 1)

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        self._check(name, f"one of {', '.join(choices)}", getattr(self, name) in choices)

    def _check(self, name: str, expected: str, holds: bool) -> None:
        if not holds:
            raise ConfigError(f"train: {name} is {getattr(self, name)!r}, expected {expected}")

"""How a ranker is trained."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from fuserank.errors import ConfigError
from fuserank.training.data.splits import SplitConfig

__all__ = [
    "Adapter",
    "Beside",
    "CollaborativeAs",
    "CollaborativeName",
    "FusionName",
    "HistoryName",
    "Loss",
    "Model",
    "MseOn",
    "NegativesFrom",
    "Precision",
    "SelectBy",
    "TrainConfig",
]

Model = Literal[
    "perceptron",
    "bilinear",
    "bilinear-matrix",
    "gmf",
    "cosine",
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
    "din",
]
FusionName = Literal["concat", "weighted", "attention", "channel"]
HistoryName = Literal["mean", "attention", "gru", "sasrec"]
CollaborativeName = Literal["none", "ease", "ials", "lightgcn"]
CollaborativeAs = Literal["blend", "source"]
Beside = Literal["none", "cosine"]
Adapter = Literal["linear", "mlp", "experts"]
MseOn = Literal["probability", "logit"]
Loss = Literal["cross-entropy", "bpr", "softmax"]
NegativesFrom = Literal["uniform", "popularity", "batch", "hard"]
SelectBy = Literal["ndcg", "auc"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of one training run.

    Attributes:
        model: the interaction model.
        leave_out: fields not to look at, each as ``item.description``.
        fusion: how the sources of a side are weighed and joined.
        history: what is made of the events of a history: their ``mean``; their mean by
            ``attention``; the last state of a recurrent unit, ``gru``; or ``sasrec``, the last
            output of causal self-attention. The last two learn from what came before a positive,
            the others from everything else the user liked.
        adapter: how texts, vectors and events are brought to the width of the sources:
            ``linear``, ``mlp`` or ``experts``, a gated mixture of four.
        whiten: directions that are kept of text embeddings, each scaled to the same variance; 0
            leaves them as they are.
        source_dropout: share of values that training hides, field by field, so that each learns to
            do without the others; ids have `id_dropout`.
        collaborative: what the likes of the training part alone say of items, as vectors: factors
            of ``ease``, ``ials`` or ``lightgcn``, or ``none``.
        factors: width of these vectors.
        collaborative_as: ``blend`` adds their inner product to the model's score, by a weight that
            is chosen on the validation part; ``source`` fuses them with the other sources.
        beside: a second model that is trained in the same steps, with towers of its own, by softmax
            over all items of a batch; its logit is added by a weight that is chosen on the
            validation part. ``cosine`` or ``none``.
        calibrate: whether slope and intercept of the logit are fitted to the validation part, so
            that probabilities are those of observed pairs.
        dim: width of φ and ψ, and of the wider sources.
        hidden: units of the first hidden layer, in models that have one.
        depth: hidden layers of deep models, each half as wide as the one before; cross layers.
        learning_rate: of Adam.
        loss: ``cross-entropy`` of every candidate, with a squared error; ``bpr``, of the positive
            against each negative; ``softmax``, of the positive among all candidates, corrected for
            how they were drawn.
        mse_weight: λ, the weight of the squared error beside the cross-entropy.
        mse_on: whether the squared error is that of the probability (Brier score) or, to the
            letter of the method, of the logit, which squeezes probabilities.
        weight_decay: share of every weight but biases that a step removes, times the learning
            rate.
        epochs: passes over the positives at most.
        batch_size: positives a step.
        negatives: items the user has not interacted with, drawn for each positive.
        negatives_from: ``uniform``; ``popularity``, by how often items are liked; ``batch``, the
            positives of other users; ``hard``, uniform, of which the best-scored eighth counts.
        negative_weight: weight of a drawn item in the loss, where the positive weighs 1; less
            than 1 brings probabilities nearer to those of items that users chose to rate.
        dislike_weight: weight of an observed negative, a rating below the data set's threshold.
            One is drawn for each positive, and stands for as many as the user has for each.
        id_dropout: share of ids, on both sides, that training hides, so that texts and
            attributes learn to carry those never seen.
        cold_dropout: share of users of whom training hides everything but the history.
        short_history: share of histories that training cuts to an excerpt of one to five events.
        visitors: share of positives for which training takes the user for a visitor who says
            what they look for: everything is hidden, and the history is one other item that is
            much like the positive.
        patience: epochs without a better validation figure after which training ends.
        select_by: that figure: ``ndcg``, NDCG@10 of all items ranked; ``auc``, of observed pairs.
        precision: what layers compute in while training; with a mixed one the weights and the
            trained ranker are float32 all the same.
        seed: of the split, the initial weights and everything drawn while training.
        split: which interactions train, validate and test.
    """

    model: Model = "perceptron"
    leave_out: tuple[str, ...] = ()
    fusion: FusionName = "concat"
    history: HistoryName = "mean"
    adapter: Adapter = "linear"
    whiten: int = 0
    source_dropout: float = 0.0
    collaborative: CollaborativeName = "none"
    factors: int = 64
    collaborative_as: CollaborativeAs = "blend"
    beside: Beside = "none"
    calibrate: bool = True
    dim: int = 64
    hidden: int = 64
    depth: int = 2
    learning_rate: float = 0.01
    loss: Loss = "cross-entropy"
    mse_weight: float = 0.1
    mse_on: MseOn = "probability"
    weight_decay: float = 0.01
    epochs: int = 30
    batch_size: int = 1024
    negatives: int = 16
    negatives_from: NegativesFrom = "uniform"
    negative_weight: float = 0.25
    dislike_weight: float = 0.1
    id_dropout: float = 0.1
    cold_dropout: float = 0.2
    short_history: float = 0.2
    visitors: float = 0.2
    patience: int = 3
    select_by: SelectBy = "ndcg"
    precision: Precision = "float32"
    seed: int = 42
    split: SplitConfig = field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        """Raise ConfigError where an option is out of range."""
        self._one_of("model", get_args(Model))
        self._one_of("fusion", get_args(FusionName))
        self._one_of("history", get_args(HistoryName))
        self._one_of("adapter", get_args(Adapter))
        self._one_of("beside", get_args(Beside))
        self._one_of("collaborative", get_args(CollaborativeName))
        self._one_of("collaborative_as", get_args(CollaborativeAs))
        self._check("whiten", "0 or more", self.whiten >= 0)
        self._check("source_dropout", "a share from 0 to 1", 0 <= self.source_dropout <= 1)
        self._one_of("loss", get_args(Loss))
        self._one_of("mse_on", get_args(MseOn))
        self._one_of("negatives_from", get_args(NegativesFrom))
        self._one_of("select_by", get_args(SelectBy))
        self._one_of("precision", get_args(Precision))
        whole = (
            "factors",
            "dim",
            "hidden",
            "depth",
            "epochs",
            "batch_size",
            "negatives",
            "patience",
        )
        for name in whole:
            self._check(name, "a whole number from 1", getattr(self, name) >= 1)
        if (self.blends or self.beside != "none") and self.model == "din":
            raise ConfigError(
                "train: found something to add to the logit of model 'din', which reads the events "
                "of a history; set collaborative_as to 'source' and beside to 'none', or choose "
                "another model"
            )
        self._check("learning_rate", "a number above 0", self.learning_rate > 0)
        for name in ("mse_weight", "weight_decay", "negative_weight", "dislike_weight", "seed"):
            self._check(name, "0 or more", getattr(self, name) >= 0)
        for name in ("id_dropout", "cold_dropout", "short_history", "visitors"):
            self._check(name, "a share from 0 to 1", 0 <= getattr(self, name) <= 1)

    @property
    def reads_events(self) -> bool:
        """Whether the ranker reads the events of a history one by one, not their mean alone."""
        return self.history != "mean" or self.model == "din"

    @property
    def blends(self) -> bool:
        """Whether a collaborative score is added to the model's."""
        return self.collaborative != "none" and self.collaborative_as == "blend"

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        self._check(name, f"one of {', '.join(choices)}", getattr(self, name) in choices)

    def _check(self, name: str, expected: str, holds: bool) -> None:
        if not holds:
            raise ConfigError(f"train: {name} is {getattr(self, name)!r}, expected {expected}")

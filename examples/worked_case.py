"""A worked case: 1,000 users and 1,000 items, known by words alone, and who likes what.

Users and items are described by sentences about topics. Whether a user likes an item is drawn: the
more topics they share, the likelier. A two-layer perceptron over the fused embeddings of both
descriptions learns it, with learning rate 0.01, λ = 0.1 and ten epochs.

    python examples/worked_case.py minilm        # the folder of an exported encoder

The figures are printed as they come out; drawn likes bound how right anyone can be.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

N_USERS = N_ITEMS = 1000
PAIRS_A_USER = 50
TOPICS = ("space travel", "cooking", "jazz", "mountain climbing", "romance", "football")
CHANCES = (0.10, 0.85, 0.95)
"""Of a like, by the number of shared topics: 0.556 of all pairs are likes."""

DATASET = """
name = "worked-case"

[interactions]
path = "pairs.parquet"
user = "user"
item = "item"
rating = "likes"
positive_at = 1.0

[users]
path = "users.parquet"
id = "user"
fields.about = { kind = "text" }

[items]
path = "items.parquet"
id = "item"
fields.description = { kind = "text" }
"""


def write_data(folder: Path) -> float:
    """Write the tables and a dataset.toml; return the accuracy of whoever knows all chances."""
    rng = np.random.default_rng(7)
    sides = {}
    for name, count, words in (
        ("user", N_USERS, "Enjoys {} and {}."),
        ("item", N_ITEMS, "A story about {} and {}."),
    ):
        topics = np.array([rng.choice(len(TOPICS), 2, replace=False) for _ in range(count)])
        texts = [words.format(*(TOPICS[topic] for topic in pair)) for pair in topics]
        column = "about" if name == "user" else "description"
        ids = [f"{name[0]}{row}" for row in range(count)]
        pq.write_table(pa.table({name: ids, column: texts}), folder / f"{name}s.parquet")
        sides[name] = topics
    users = np.repeat(np.arange(N_USERS), PAIRS_A_USER)
    items = np.concatenate(
        [rng.choice(N_ITEMS, PAIRS_A_USER, replace=False) for _ in range(N_USERS)]
    )
    shared = (sides["user"][users][:, :, None] == sides["item"][items][:, None, :]).sum(axis=(1, 2))
    chance = np.array(CHANCES)[shared]
    likes = rng.random(len(users)) < chance
    pairs = {
        "user": [f"u{row}" for row in users],
        "item": [f"i{row}" for row in items],
        "likes": likes.astype(np.float32),
    }
    pq.write_table(pa.table(pairs), folder / "pairs.parquet")
    (folder / "dataset.toml").write_text(DATASET, encoding="utf-8")
    return float(np.maximum(chance, 1 - chance).mean())


def main(encoder: str) -> None:
    import tensorflow  # noqa: F401

    from fuserank.engine.encoder import TextEncoder
    from fuserank.training.data.dataset import load_dataset
    from fuserank.training.data.splits import SplitConfig
    from fuserank.training.train import train
    from fuserank.training.train_config import TrainConfig

    with tempfile.TemporaryDirectory() as name:
        at_most = write_data(Path(name))
        dataset = load_dataset(Path(name) / "dataset.toml")
        config = TrainConfig(
            model="perceptron",
            learning_rate=0.01,
            mse_weight=0.1,
            epochs=10,
            patience=10,
            dislike_weight=1.0,
            negatives=1,
            negative_weight=0.0,  # preferences are known: none has to be assumed
            visitors=0.0,
            cold_dropout=0.0,
            select_by="auc",
            split=SplitConfig(strategy="random"),
        )
        report = train(dataset, TextEncoder.load(Path(encoder)), config).report
    found = report.classification
    print(f"pairs {found.n_pairs}, share of likes {found.base_rate:.3f}")
    for epoch, figures in enumerate(report.epochs, start=1):
        print(f"epoch {epoch:2}: loss {figures.loss:.4f}, validation AUC {figures.auc:.4f}")
    print(f"accuracy  {found.accuracy:.3f}  (knowing every chance: {at_most:.3f})")
    print(f"precision {found.precision:.3f}")
    print(f"recall    {found.recall:.3f}")
    print(f"F1        {found.f1:.3f}")
    print(f"ROC-AUC   {found.roc_auc:.3f}, log loss {found.log_loss:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])

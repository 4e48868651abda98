"""A PyTorch ranker, trained elsewhere, becomes a served bundle.

python examples/bring_your_own_ranker.py DIRECTORY, then: fuserank serve DIRECTORY/ranker.bundle
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fuserank
from fuserank.export.foreign import export_foreign
from fuserank.schema import Side

N_USERS, N_ITEMS, DIM = 50, 200, 16


class TwoLayers(nn.Module):
    """Ids of a user and an item, the hour of the request and the item's price, to one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(N_USERS, DIM), nn.Embedding(N_ITEMS, DIM)
        self.hidden, self.out = nn.Linear(2 * DIM + 2, 32), nn.Linear(32, 1)

    def forward(
        self, user: torch.Tensor, hour: torch.Tensor, item: torch.Tensor, price: torch.Tensor
    ) -> torch.Tensor:
        pair = torch.cat([self.users(user), hour, self.items(item), price], 1)
        return self.out(torch.relu(self.hidden(pair)))


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = TwoLayers().eval()  # train it here

    batch = torch.export.Dim("batch")
    pairs = (
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, 1),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, 1),
    )
    program = torch.export.export(model, pairs, dynamic_shapes=[{0: batch}] * 4)
    torch.export.save(program, directory / "ranker.pt2")

    rng = np.random.default_rng(0)
    np.savez(
        directory / "items.npz",
        id=np.array([f"sku-{row}" for row in range(N_ITEMS)]),
        item=np.arange(N_ITEMS),
        price=rng.standard_normal((N_ITEMS, 1)).astype(np.float32),
        title=np.array([f"thing number {row}" for row in range(N_ITEMS)]),
    )

    sides = {"user": Side.USER, "hour": Side.CONTEXT, "item": Side.ITEM, "price": Side.ITEM}
    made = export_foreign(
        directory / "ranker.pt2",
        directory / "items.npz",
        directory / "ranker.bundle",
        sides=lambda _: sides,
    )
    print("scorer", made.parts.scorer.kind)
    with fuserank.load(made.path) as engine:
        for item, score in engine.recommend({"user": 7, "hour": [0.5]}, k=3):
            print(item, f"{score:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

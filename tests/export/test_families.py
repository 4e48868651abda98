"""Model families as PyTorch exports them: factorised, verified, and lowered as far as they go."""

import io
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fuserank.bundle import ScorerKind
from fuserank.export.factorise import factorise
from fuserank.export.sides import sides_by_name
from fuserank.export.verify import verify_factorised

N_FIELDS, N_VALUES, DIM = 3, 11, 4


class Base(nn.Module):
    """Embeds three user and three item fields, (batch, 3) int64 rows each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(2 * N_FIELDS * N_VALUES, DIM)
        self.build()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)

    def build(self) -> None:
        pass

    def forward(self, user, item):
        offsets = torch.arange(N_FIELDS) * N_VALUES
        return self.logit(
            self.table(user + offsets), self.table(item + offsets + N_FIELDS * N_VALUES)
        )


def flat(x):
    return x.flatten(1)


def perceptron(*widths, batch_norm=False):
    layers = []
    for inner, outer in pairwise(widths):
        layers.append(nn.Linear(inner, outer))
        if outer != 1:
            layers += [nn.BatchNorm1d(outer)] * batch_norm + [nn.ReLU()]
    return nn.Sequential(*layers)


SIDE = N_FIELDS * DIM


class GMF(Base):
    def build(self):
        self.theta = nn.Linear(SIDE, 1)

    def logit(self, u, i):
        return self.theta(flat(u) * flat(i))


class Bilinear(Base):
    def build(self):
        self.theta = nn.Linear(SIDE, SIDE, bias=False)
        self.biases = nn.Linear(2 * SIDE, 1)

    def logit(self, u, i):
        crossed = (self.theta(flat(u)) * flat(i)).sum(1, keepdim=True)
        return crossed + self.biases(torch.cat([flat(u), flat(i)], 1))


class TwoTower(Base):
    def build(self):
        self.user, self.item = perceptron(SIDE, 8, 5), perceptron(SIDE, 9, 5)

    def logit(self, u, i):
        return (self.user(flat(u)) * self.item(flat(i))).sum(-1)


class FM(Base):
    def build(self):
        self.linear = nn.Linear(2 * SIDE, 1)

    def second_order(self, u, i):
        v = torch.cat([u, i], 1)
        return 0.5 * (v.sum(1) ** 2 - (v**2).sum(1)).sum(1, keepdim=True)

    def logit(self, u, i):
        return self.second_order(u, i) + self.linear(flat(torch.cat([u, i], 1)))


class FwFM(Base):
    def build(self):
        self.pairs = nn.Parameter(torch.empty(2 * N_FIELDS, 2 * N_FIELDS))

    def logit(self, u, i):
        fields = [*u.unbind(1), *i.unbind(1)]
        total = 0.0
        for a in range(len(fields)):
            for b in range(a + 1, len(fields)):
                total = total + self.pairs[a, b] * (fields[a] * fields[b]).sum(1)
        return total


class DCN1(Base):
    depth = 1

    def build(self):
        self.cross = nn.ModuleList(nn.Linear(2 * SIDE, 2 * SIDE) for _ in range(self.depth))
        self.out = nn.Linear(2 * SIDE, 1)

    def logit(self, u, i):
        x0 = x = torch.cat([flat(u), flat(i)], 1)
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.out(x)


class FinalMLP(Base):
    def build(self):
        self.one, self.two = perceptron(SIDE, 8, 6), perceptron(SIDE, 7, 5)
        self.w1, self.w2 = nn.Linear(6, 1), nn.Linear(5, 1, bias=False)
        self.fused = nn.Linear(6, 5, bias=False)

    def logit(self, u, i):
        o1, o2 = self.one(flat(u)), self.two(flat(i))
        return self.w1(o1) + self.w2(o2) + (self.fused(o1) * o2).sum(1, keepdim=True)


class MLP(Base):
    def build(self):
        self.layers = perceptron(2 * SIDE, 8, 1)

    def logit(self, u, i):
        return self.layers(torch.cat([flat(u), flat(i)], 1))


class MLPWithBatchNorm(MLP):
    def build(self):
        self.layers = perceptron(2 * SIDE, 8, 1, batch_norm=True)


class DeepMLP(MLP):
    def build(self):
        self.layers = perceptron(2 * SIDE, 8, 6, 1)


class NeuMF(Base):
    def build(self):
        self.layers, self.out = perceptron(2 * SIDE, 8, 6), nn.Linear(SIDE + 6, 1)

    def logit(self, u, i):
        deep = self.layers(torch.cat([flat(u), flat(i)], 1))
        return self.out(torch.cat([flat(u) * flat(i), deep], 1))


class WideAndDeep(MLP):
    def build(self):
        self.layers, self.wide = perceptron(2 * SIDE, 8, 6, 1), nn.Linear(2 * SIDE, 1)

    def logit(self, u, i):
        return super().logit(u, i) + self.wide(torch.cat([flat(u), flat(i)], 1))


class DeepFM(FM):
    def build(self):
        super().build()
        self.layers = perceptron(2 * SIDE, 8, 6, 1)

    def logit(self, u, i):
        return super().logit(u, i) + self.layers(torch.cat([flat(u), flat(i)], 1))


class DCN2(DCN1):
    depth = 2


class DIN(Base):
    def build(self):
        self.attention, self.out = perceptron(4 * DIM, 6, 1), perceptron(3 * DIM, 6, 1)

    def logit(self, u, i):
        target = i[:, :1].expand(-1, N_FIELDS, -1)
        scored = self.attention[1](
            self.attention[0](torch.cat([u, target, u - target, u * target], -1))
        )
        weights = self.attention[2](scored)
        pooled = (weights * u).sum(1)
        return self.out(torch.cat([pooled, i[:, 0], i[:, 1]], 1))


class AutoInt(Base):
    def build(self):
        self.q, self.k, self.v = (nn.Linear(DIM, DIM, bias=False) for _ in range(3))
        self.out = nn.Linear(2 * SIDE, 1)

    def logit(self, u, i):
        x = torch.cat([u, i], 1)
        scores = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        return self.out(flat(torch.relu(scores @ self.v(x) + x)))


LOWERED = {
    GMF: (ScorerKind.DOT, SIDE),
    Bilinear: (ScorerKind.DOT, SIDE),
    TwoTower: (ScorerKind.DOT, 5),
    FM: (ScorerKind.DOT, DIM),
    FwFM: (ScorerKind.DOT, SIDE),
    DCN1: (ScorerKind.DOT, 2 * SIDE),
    FinalMLP: (ScorerKind.DOT, 5),
    MLP: (ScorerKind.ADDITIVE, 8),
    MLPWithBatchNorm: (ScorerKind.ADDITIVE, 8),
    DeepMLP: (ScorerKind.ADDITIVE, 8 * 6 + 6),
    NeuMF: (ScorerKind.ADDITIVE, 8 * 6 + 6 + SIDE),
    WideAndDeep: (ScorerKind.ADDITIVE, 8 * 6 + 6),
    DeepFM: (ScorerKind.ADDITIVE, 8 * 6 + 6 + DIM),
    DCN2: (ScorerKind.GENERIC, None),
    DIN: (ScorerKind.GENERIC, None),
    AutoInt: (ScorerKind.GENERIC, None),
}


def drawn():
    """Inputs of nine users and of 400 items."""
    rng = np.random.default_rng(1)
    users = {"user.fields": rng.integers(0, N_VALUES, (9, N_FIELDS))}
    return users, {"item.fields": rng.integers(0, N_VALUES, (400, N_FIELDS))}


def exported(model):
    buffer = io.BytesIO()
    example = torch.zeros(2, N_FIELDS, dtype=torch.int64)
    names = ["user.fields", "item.fields"]
    torch.onnx.export(
        model.eval(),
        (example, example),
        buffer,
        input_names=names,
        output_names=["logit"],
        dynamic_axes={name: {0: "batch"} for name in [*names, "logit"]},
        opset_version=17,
        dynamo=False,
    )
    return onnx.load_from_string(buffer.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.ReLU, "relu"),
        (nn.Tanh, "tanh"),
        (nn.Sigmoid, "sigmoid"),
        (nn.SiLU, "silu"),
        (nn.GELU, "gelu"),
    ],
)
def test_activations_however_they_are_spelled(module, name):
    class Activated(MLP):
        def build(self):
            self.layers = nn.Sequential(nn.Linear(2 * SIDE, 8), module(), nn.Linear(8, 1))

    model = exported(Activated())
    parts = factorise(model, sides_by_name(value.name for value in model.graph.input))
    assert (parts.scorer.kind, parts.scorer.activation) == (ScorerKind.ADDITIVE, name)
    assert verify_factorised(model, parts, *drawn()) <= 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("family", LOWERED, ids=lambda family: family.__name__)
def test_families_from_pytorch(family, check_top_100):
    model = exported(family())
    parts = factorise(model, sides_by_name(value.name for value in model.graph.input))
    assert verify_factorised(model, parts, *drawn()) <= 1e-5
    check_top_100(model, parts, *drawn())
    kind, width = LOWERED[family]
    assert parts.scorer.kind is kind, parts.scorer.note
    if width is not None:
        assert parts.scorer.joint_multiply_adds == width
    assert (parts.scorer.note == "") == (kind is not ScorerKind.GENERIC)

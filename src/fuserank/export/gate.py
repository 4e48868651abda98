"""The ranking-quality gate: what an optimized encoder may cost against its fp32 reference."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from fuserank.errors import ConfigError
from fuserank.export.agreement import Cosines, cosines, overlap, rank_biased_overlap

__all__ = ["GateBudget", "GateReport", "RankedWith", "Side", "compare"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GateBudget:
    """What an optimized encoder may cost; None asks for nothing.

    Attributes:
        ndcg_loss: share of the reference's NDCG@10 that may be lost.
        overlap_100: least mean overlap of the hundred best items.
        overlap_10: least mean overlap of the ten best items.
        rbo: least mean rank-biased overlap.
        auc_loss: how much of the reference's AUC of observed pairs may be lost.
        item_cosine: least mean cosine of item texts.
        user_cosine: least mean cosine of user texts.
    """

    ndcg_loss: float | None = 0.005
    overlap_100: float | None = 0.97
    overlap_10: float | None = None
    rbo: float | None = None
    auc_loss: float | None = None
    item_cosine: float | None = None
    user_cosine: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where a bound is no share."""
        for bound in fields(self):
            found = getattr(self, bound.name)
            if found is not None and not 0 <= found <= 1:
                raise ConfigError(f"gate {bound.name}: found {found}, expected a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class RankedWith:
    """What one ranker makes of validation users with the embeddings of one encoder.

    Attributes:
        precision: of the encoder.
        space: fingerprint of its embeddings.
        size_bytes: of its graph and weights.
        top: (n_users, at most 100) item rows, best first, −1 for none.
        ndcg: (n_judged,) NDCG@10 of the held-out positives of each user who has any.
        auc: of the held-out observed pairs; None where all are alike.
        item_texts: (n, dim) float32, rows of zeros where there is no text.
        user_texts: (n, dim) float32, the same.
    """

    precision: str
    space: str
    size_bytes: int
    top: npt.NDArray[np.int64]
    ndcg: Doubles
    auc: float | None
    item_texts: npt.NDArray[np.float32]
    user_texts: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two encoders that were compared.

    Attributes:
        precision: such as ``"int8"``.
        space: fingerprint of its embeddings.
        size_bytes: of its graph and weights.
        ndcg: mean NDCG@10 over the users with a held-out positive.
        auc: of observed pairs, or None.
    """

    precision: str
    space: str
    size_bytes: int
    ndcg: float
    auc: float | None


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """An optimized encoder beside its reference, the ranker being the same.

    Attributes:
        reference: the fp32 encoder.
        optimized: the encoder of the bundle.
        n_users: validation users that were ranked for.
        n_judged: those of them with a held-out positive.
        ndcg_loss: share of the reference's NDCG@10 that is lost; negative where it is a gain, and
            0 where the reference finds nothing.
        auc_loss: reference less optimized, or None.
        overlap_10: mean over users.
        overlap_100: mean over users.
        rbo: mean over users, p = .9, the hundred best, extrapolated.
        item_texts: cosines of item texts; None without any.
        user_texts: cosines of stored user texts; None without any.
        budget: what was allowed.
        passed: whether everything is within it.
        reasons: what is not.
    """

    reference: Side
    optimized: Side
    n_users: int
    n_judged: int
    ndcg_loss: float
    auc_loss: float | None
    overlap_10: float
    overlap_100: float
    rbo: float
    item_texts: Cosines | None
    user_texts: Cosines | None
    budget: GateBudget
    passed: bool
    reasons: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Verdict and main figures, on one line."""
        verdict = "passed" if self.passed else f"degraded: {'; '.join(self.reasons)}"
        return (
            f"{verdict}; NDCG@10 {self.optimized.ndcg:.4f} in {self.optimized.precision}, "
            f"{self.reference.ndcg:.4f} in {self.reference.precision}; overlap of the ten best "
            f"{self.overlap_10:.3f}, of the hundred best {self.overlap_100:.3f}, rank-biased "
            f"{self.rbo:.3f}; {self.n_users:,} users"
        )


def compare(reference: RankedWith, optimized: RankedWith, budget: GateBudget) -> GateReport:
    """Compare what a ranker makes of two encoders; the users and items have to be the same."""
    one, other = _side(reference), _side(optimized)
    loss = (one.ndcg - other.ndcg) / one.ndcg if one.ndcg > 0 else 0.0
    auc_loss = None if one.auc is None or other.auc is None else one.auc - other.auc
    tops = reference.top, optimized.top
    overlaps = {k: float(overlap(*tops, k).mean()) for k in (10, 100)}
    rbo = float(rank_biased_overlap(*tops).mean())
    items = cosines(reference.item_texts, optimized.item_texts)
    users = cosines(reference.user_texts, optimized.user_texts)
    lost = {"ndcg_loss": loss, "auc_loss": auc_loss}
    kept = {
        "overlap_100": overlaps[100],
        "overlap_10": overlaps[10],
        "rbo": rbo,
        "item_cosine": None if items is None else items.mean,
        "user_cosine": None if users is None else users.mean,
    }
    reasons = _reasons(budget, lost, kept)
    return GateReport(
        reference=one,
        optimized=other,
        n_users=len(reference.top),
        n_judged=len(reference.ndcg),
        ndcg_loss=loss,
        auc_loss=auc_loss,
        overlap_10=overlaps[10],
        overlap_100=overlaps[100],
        rbo=rbo,
        item_texts=items,
        user_texts=users,
        budget=budget,
        passed=not reasons,
        reasons=reasons,
    )


def _side(ranked: RankedWith) -> Side:
    return Side(
        precision=ranked.precision,
        space=ranked.space,
        size_bytes=ranked.size_bytes,
        ndcg=float(ranked.ndcg.mean()),
        auc=ranked.auc,
    )


def _reasons(
    budget: GateBudget, lost: Mapping[str, float | None], kept: Mapping[str, float | None]
) -> tuple[str, ...]:
    """Return what is over budget; what could not be measured is not within it either."""
    reasons = []
    for figures, word in ((lost, "most"), (kept, "least")):
        for name, found in figures.items():
            bound: float | None = getattr(budget, name)
            if bound is None:
                continue
            if found is None:
                reasons.append(f"{name} could not be measured, expected at {word} {bound:g}")
            elif not (found <= bound if figures is lost else found >= bound):
                reasons.append(f"{name} is {found:.4f}, expected at {word} {bound:g}")
    return tuple(reasons)

"""Requests that wait for the engine, and which of them go together next."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fuserank.engine.filters import EVERYTHING, ItemFilter
from fuserank.engine.results import Plan, Recommendation

__all__ = ["Job", "Turn", "Waiting"]

User = Mapping[str, object]
Outcome = list[Recommendation] | Exception


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """Users who are answered by one call of the engine, which others may share.

    Attributes:
        users: 1 or more.
        k: items wanted for each.
        group: those of one group differ in users, k and filter alone, and may share a call.
        keywords: of `Engine.recommend_many`, beside k, plan and those that the filter stands for;
            the same in all of a group.
        text_chars: characters of the texts that are to be encoded.
        bulk: goes after what is not bulk.
        deadline: monotonic seconds; infinite without one.
        done: called once on the event loop with what became of it, unless it was cancelled.
        filter: which items may come back to each.
        arrived: monotonic seconds when it began to wait.
        queue_s: seconds that it waited.
        settled: whether it was answered or cancelled.
    """

    users: Sequence[User]
    k: int
    group: Hashable
    keywords: Mapping[str, Any]
    text_chars: int
    bulk: bool
    deadline: float
    done: Callable[["Job", Outcome], None]
    filter: ItemFilter = EVERYTHING
    arrived: float = 0.0
    queue_s: float = 0.0
    settled: bool = False


@dataclass(kw_only=True, slots=True)
class Turn:
    """What the engine does next.

    Attributes:
        calls: by plan, the jobs of one group that share a call, the quickest plan first.
        late: jobs of which no plan meets the deadline.
        n_users: of all calls.
        texts: whether texts are to be encoded.
        began: monotonic seconds when it was taken.
        ends: monotonic seconds when it is expected to be done.
    """

    calls: dict[Plan, list[Job]] = field(default_factory=dict)
    late: list[Job] = field(default_factory=list)
    n_users: int = 0
    texts: bool = False
    began: float = 0.0
    ends: float = 0.0


class _Lane:
    """Jobs of one priority, in the order in which they came. Each end costs the same at any size.

    Attributes:
        n_users: of all jobs.
    """

    def __init__(self) -> None:
        self._order: OrderedDict[Job, None] = OrderedDict()
        self._groups: dict[Hashable, OrderedDict[Job, None]] = {}
        self.n_users = 0

    def __bool__(self) -> bool:
        return bool(self._order)

    def add(self, job: Job) -> None:
        self._order[job] = None
        self._groups.setdefault(job.group, OrderedDict())[job] = None
        self.n_users += len(job.users)

    def remove(self, job: Job) -> bool:
        if job not in self._order:
            return False
        del self._order[job]
        group = self._groups[job.group]
        del group[job]
        if not group:
            del self._groups[job.group]
        self.n_users -= len(job.users)
        return True

    def oldest(self) -> Job:
        return next(iter(self._order))

    def group(self, job: Job) -> OrderedDict[Job, None]:
        return self._groups[job.group]


class Waiting:
    """A queue of two priorities whose jobs leave in groups. Not thread-safe."""

    def __init__(self, *, max_users: int, max_text_chars: int, bulk_every: int) -> None:
        """Hold nothing yet.

        Args:
            max_users: users of one turn.
            max_text_chars: characters to encode in one turn; a job with more has its own.
            bulk_every: while both wait, every so many turns are bulk's.
        """
        self._max_users, self._max_text_chars = max_users, max_text_chars
        self._bulk_every, self._since_bulk = bulk_every, 0
        self._urgent, self._bulk = _Lane(), _Lane()

    def __bool__(self) -> bool:
        return bool(self._urgent or self._bulk)

    @property
    def n_users(self) -> int:
        """How many users wait."""
        return self._urgent.n_users + self._bulk.n_users

    def n_ahead(self, *, bulk: bool) -> int:
        """Return how many users go before a job that came now."""
        return self.n_users if bulk else self._urgent.n_users

    def add(self, job: Job) -> None:
        """Have a job wait."""
        self._lane(job).add(job)

    def remove(self, job: Job) -> bool:
        """Take a job out, and return whether it waited."""
        return self._lane(job).remove(job)

    def next_up(self) -> tuple[Job, int]:
        """Return the job that leads the next turn, and how many users may share that."""
        head = self._next_lane().oldest()
        return head, self._sharing(head)

    @property
    def fills_a_turn(self) -> bool:
        """Whether the next turn is as large as turns get."""
        return bool(self) and self.next_up()[1] >= self._max_users

    def oldest(self) -> float:
        """Return when the job came that has waited longest."""
        return min(lane.oldest().arrived for lane in (self._urgent, self._bulk) if lane)

    def take(self, choose: Callable[[Job, int], Plan | None]) -> Turn:
        """Take out the next turn: the oldest job and what may share its call.

        Args:
            choose: returns the plan for a job in a call of so many users; None if it is too late.
        """
        lane = self._next_lane()
        if self._urgent and self._bulk:
            self._since_bulk = 0 if lane is self._bulk else self._since_bulk + 1
        head = lane.oldest()
        jobs = tuple(lane.group(head))
        max_users = self._users_of_turn(jobs, self._sharing(head), choose)
        turn = Turn(texts=head.text_chars > 0)
        chosen: dict[Plan, list[Job]] = {}
        text_chars = 0
        for job in jobs:
            full = turn.n_users and (
                turn.n_users + len(job.users) > max_users
                or text_chars + job.text_chars > self._max_text_chars
            )
            if full:
                break
            lane.remove(job)
            plan = choose(job, max_users)
            if plan is None:
                turn.late.append(job)
                continue
            chosen.setdefault(plan, []).append(job)
            turn.n_users += len(job.users)
            text_chars += job.text_chars
        # Those who have the least time go first.
        turn.calls = {plan: chosen[plan] for plan in (Plan.QUANTIZED, Plan.EXACT) if plan in chosen}
        return turn

    def _users_of_turn(
        self, jobs: Sequence[Job], most: int, choose: Callable[[Job, int], Plan | None]
    ) -> int:
        """Return how many users are to share a turn.

        As many as may, unless that would be too late for so many of them that fewer, whose call is
        shorter, are more that come in time.
        """
        best = n_users = most
        in_time = 0
        while n_users >= max(in_time, 1):
            found = 0
            for job in jobs:
                if found >= n_users:
                    break
                if choose(job, n_users) is not None:
                    found += len(job.users)
            if min(found, n_users) >= max(in_time, 1):
                best, in_time = n_users, min(found, n_users)
            n_users //= 2
        return best

    def _lane(self, job: Job) -> _Lane:
        return self._bulk if job.bulk else self._urgent

    def _next_lane(self) -> _Lane:
        due = self._since_bulk >= self._bulk_every - 1
        return self._bulk if self._bulk and (due or not self._urgent) else self._urgent

    def _sharing(self, head: Job) -> int:
        """Return how many users the turn of a job has, if texts leave room for them."""
        jobs = self._lane(head).group(head)
        n_users = len(head.users)
        if len(jobs) == 1:
            return n_users
        for job in jobs:
            if n_users >= self._max_users:
                return self._max_users
            n_users += len(job.users) if job is not head else 0
        return min(n_users, self._max_users)

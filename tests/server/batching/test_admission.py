import pytest

from fuserank.errors import ConfigError, OverloadedError
from fuserank.server.batching.admission import Admission, AdmissionConfig


class Rejections(list):
    def count_rejection(self, reason):
        self.append(reason)


def test_so_many_calls_are_let_in_and_more_when_some_have_left():
    rejected = Rejections()
    admission = Admission(AdmissionConfig(max_calls=2), rejected)
    with admission:
        with admission:
            with pytest.raises(OverloadedError, match="2 calls") as caught, admission:
                pytest.fail("let in")
            assert caught.value.retry_after_s > 0
        with admission:
            pass
    assert rejected == ["calls"]


def test_a_call_that_fails_leaves_too():
    admission = Admission(AdmissionConfig(max_calls=1))
    for _ in range(3):
        with pytest.raises(KeyError), admission:
            raise KeyError


@pytest.mark.parametrize(
    "name", ["max_calls", "max_connection_calls", "max_backlog", "max_queue", "max_outstanding"]
)
def test_options_out_of_range_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name}: found 0, expected 1 or more"):
        AdmissionConfig(**{name: 0})

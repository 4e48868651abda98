import pytest

from fuserank.errors import ConfigError
from fuserank.server.config import ServerConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": ""}, "host: found ''"),
        ({"host": " ::1"}, "host: found ' ::1'"),
        ({"port": -1}, "port: found -1, expected 0 to 65535"),
        ({"port": 65_536}, "port: found 65536"),
        ({"call_threads": 0}, "call_threads: found 0, expected 1 or more"),
        ({"max_k": 0}, "max_k: found 0"),
        ({"max_batch": 0}, "max_batch: found 0"),
        ({"max_items": 0}, "max_items: found 0"),
        ({"max_fields": 0}, "max_fields: found 0"),
        ({"max_values": 0}, "max_values: found 0"),
        ({"max_texts": 0}, "max_texts: found 0"),
        ({"max_text_chars": -5}, "max_text_chars: found -5"),
        ({"max_message_bytes": 0}, "max_message_bytes: found 0"),
        ({"max_message_bytes": 2**31}, "expected less than 2 GiB"),
        ({"grace_s": -1.0}, "grace_s: found -1.0"),
        ({"grace_s": float("nan")}, "grace_s: found nan"),
        ({"grace_s": float("inf")}, "grace_s: found inf"),
    ],
)
def test_what_is_out_of_range_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        ServerConfig(**options)


def test_the_limits_themselves_are_allowed():
    config = ServerConfig(port=65_535, grace_s=0.0, max_message_bytes=2**31 - 1, max_k=1)
    assert config.port == 65_535

"""A whole server with TLS and tokens, and the clients of this package."""

import hashlib
import logging

import grpc
import pytest

from fuserank.errors import ConfigError, ServerError, UnavailableError
from fuserank.server.client.client import AsyncClient, Client
from fuserank.server.security.auth import AuthConfig
from fuserank.server.security.tls import TlsConfig

TOKEN = "a-token-of-a-reader"


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"reader:recommend:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    return file


def tls_of(files, **options):
    return TlsConfig(certificate=files.certificate, key=files.key, **options)


def test_both_clients_get_through_with_authority_and_token(serve, authority, token_file, on_loop):
    address = serve(tls=tls_of(authority.issue("server")), auth=AuthConfig(token_file=token_file))

    async def ask():
        async with AsyncClient(address, tls_ca=authority.file, token=TOKEN) as client:
            await client.wait_until_ready(10)
            return await client.recommend({}, 2)

    with Client(address, tls_ca=authority.file, token=TOKEN) as client:
        client.wait_until_ready(10)
        assert client.recommend({}, 2).item_ids == ("0", "1")
    assert on_loop(ask()).item_ids == ("0", "1")
    with Client(address, tls_ca=authority.file) as client:
        client.wait_until_ready(10)  # probes need no token
        with pytest.raises(ServerError, match="UNAUTHENTICATED: expected a valid token"):
            client.recommend({})
    with Client(address) as client, pytest.raises(UnavailableError):
        client.recommend({})


def test_clients_show_their_certificate(serve, authority, other_authority):
    address = serve(tls=tls_of(authority.issue("server"), client_ca=other_authority.file))
    known = other_authority.issue("known")
    files = {"certificate": known.certificate, "key": known.key}
    with Client(address, tls_ca=authority.file, **files) as client:
        assert client.recommend({}, 1).item_ids == ("0",)
    with Client(address, tls_ca=authority.file) as client, pytest.raises(UnavailableError):
        client.recommend({})


def test_files_that_cannot_be_used_keep_it_from_starting(start_server, tmp_path, authority):
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match="missing cannot be read"):
        start_server(tls=TlsConfig(certificate=missing, key=missing))
    with pytest.raises(ConfigError, match="missing cannot be read"):
        start_server(auth=AuthConfig(token_file=missing))


def test_a_server_that_is_open_to_a_network_says_so(start_server, caplog):
    caplog.set_level(logging.WARNING)
    start_server(host="127.0.0.1")
    assert not caplog.messages
    start_server(host="0.0.0.0")
    assert "set tls.certificate" in caplog.text
    assert "set auth.token_file" in caplog.text


def test_noise_is_an_invalid_argument(serve):
    with grpc.insecure_channel(serve()) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/fuserank.v1.RecommenderService/Recommend")(b"\xff", timeout=10)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

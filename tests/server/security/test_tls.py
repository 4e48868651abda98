import datetime
import logging

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fuserank.errors import ConfigError
from fuserank.server.api.health import Health
from fuserank.server.client.channel import ChannelOptions, open_channel
from fuserank.server.security import tls
from fuserank.server.security.tls import TlsConfig, server_credentials

Code = grpc.StatusCode
DAY = datetime.timedelta(days=1)


@pytest.fixture
def serve(start_grpc, on_loop):
    """Serve health on an encrypted port and return the address."""

    def start(config):
        async def health():
            return Health([])

        service = on_loop(health())
        return start_grpc(
            lambda server: health_pb2_grpc.add_HealthServicer_to_server(service, server),
            credentials=server_credentials(config),
        )

    return start


def config_of(files, **options):
    return TlsConfig(certificate=files.certificate, key=files.key, **options)


def check(address, **options):
    """Connect anew, and return the status of a call."""
    with open_channel(address, ChannelOptions(**options)) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError as error:
            return error.code()
        return Code.OK


def test_clients_that_trust_the_authority_get_through(serve, authority, other_authority):
    address = serve(config_of(authority.issue("server")))
    assert check(address, tls_ca=authority.file) is Code.OK
    assert check(address, tls_ca=other_authority.file) is Code.UNAVAILABLE
    assert check(address, tls=True) is Code.UNAVAILABLE
    assert check(address) is Code.UNAVAILABLE


def test_without_a_certificate_there_are_no_credentials():
    assert not TlsConfig().enabled
    assert server_credentials(TlsConfig()) is None


def test_a_new_certificate_is_taken_while_connections_go_on(
    serve, authority, other_authority, caplog
):
    caplog.set_level(logging.INFO)
    files = authority.issue("server")
    address = serve(config_of(files))
    with open_channel(address, ChannelOptions(tls_ca=authority.file)) as before:
        stub = health_pb2_grpc.HealthStub(before)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        other_authority.issue("server")
        assert check(address, tls_ca=other_authority.file) is Code.OK
        assert check(address, tls_ca=authority.file) is Code.UNAVAILABLE
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert caplog.messages.count(f"loaded the certificate in {files.certificate}") == 1


@pytest.mark.parametrize("damage", ["expired", "half", "empty", "gone", "foreign key"])
def test_what_cannot_be_served_leaves_the_old_certificate(serve, authority, caplog, damage):
    files = authority.issue("server")
    address = serve(config_of(files))
    good = files.certificate.read_bytes()
    if damage == "expired":
        authority.issue("server", valid=(-2 * DAY, -1 * DAY))
    elif damage == "half":
        files.certificate.write_bytes(good[: len(good) // 2])
    elif damage == "empty":
        files.certificate.write_bytes(b"")
    elif damage == "gone":
        files.certificate.unlink()
    else:
        files.key.write_bytes(authority.issue("another").key.read_bytes())
    assert check(address, tls_ca=authority.file) is Code.OK
    assert check(address, tls_ca=authority.file) is Code.OK
    errors = [line.getMessage() for line in caplog.records if line.levelname == "ERROR"]
    assert len(errors) == 1  # not one a connection
    assert str(files.certificate) in errors[0]
    assert "loaded before goes on" in errors[0]
    authority.issue("server")  # mended
    assert check(address, tls_ca=authority.file) is Code.OK


def test_files_that_change_while_they_are_read_are_read_again(
    serve, authority, other_authority, monkeypatch
):
    files = authority.issue("server")
    address = serve(config_of(files))
    check_pair, left = tls._check_pair, [1]

    def replaced_meanwhile(*paths):
        if left:
            left.pop()
            other_authority.issue("server")
        check_pair(*paths)

    authority.issue("server")
    monkeypatch.setattr(tls, "_check_pair", replaced_meanwhile)
    assert check(address, tls_ca=other_authority.file) is Code.OK
    assert not left


def test_clients_need_a_certificate_where_it_is_asked_for(serve, authority, other_authority):
    address = serve(config_of(authority.issue("server"), client_ca=other_authority.file))
    known, stranger = other_authority.issue("known"), authority.issue("stranger")
    ca = authority.file
    assert check(address, tls_ca=ca) is Code.UNAVAILABLE
    assert (
        check(address, tls_ca=ca, certificate=stranger.certificate, key=stranger.key)
        is Code.UNAVAILABLE
    )
    assert check(address, tls_ca=ca, certificate=known.certificate, key=known.key) is Code.OK


def test_a_client_certificate_that_expired_is_refused(serve, authority, other_authority):
    address = serve(config_of(authority.issue("server"), client_ca=other_authority.file))
    late = other_authority.issue("late", valid=(-2 * DAY, -1 * DAY))
    refused = check(address, tls_ca=authority.file, certificate=late.certificate, key=late.key)
    assert refused is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("valid", "found"),
    [
        ((-2 * DAY, -1 * DAY), r"server\.crt: certificate 1 of the file expired on 2.* UTC.*renew"),
        (
            (1 * DAY, 2 * DAY),
            r"server\.crt: certificate 1 of the file is not valid before 2.*clock",
        ),
    ],
)
def test_a_certificate_out_of_date_is_refused_at_start(authority, valid, found):
    with pytest.raises(ConfigError, match=found):
        server_credentials(config_of(authority.issue("server", valid=valid)))


def test_an_expired_one_of_a_chain_is_named_by_its_number(authority):
    files, late = authority.issue("server"), authority.issue("late", valid=(-2 * DAY, -1 * DAY))
    with files.certificate.open("ab") as chain:
        chain.write(late.certificate.read_bytes())
    with pytest.raises(ConfigError, match="certificate 2 of the file expired"):
        server_credentials(config_of(files))


def test_files_that_cannot_be_used_are_named_with_the_remedy(authority, tmp_path):
    files, locked = authority.issue("server"), authority.issue("locked", passphrase=b"secret")
    other, missing = authority.issue("other"), tmp_path / "missing.pem"
    for certificate, key, client_ca, message in (
        (missing, files.key, None, r"tls\.certificate: .*missing\.pem cannot be read \(No such"),
        (tmp_path, files.key, None, r"tls\.certificate: .* cannot be read \(Is a directory"),
        (files.certificate, missing, None, r"tls\.key: .*missing\.pem cannot be read"),
        (files.certificate, files.key, missing, r"tls\.client_ca: .*missing\.pem cannot be read"),
        (files.key, files.key, None, r"tls\.certificate: .*server\.key holds no certificate"),
        (files.certificate, files.certificate, None, r"server\.crt holds no private key"),
        (files.certificate, files.key, files.key, r"tls\.client_ca: .*holds no certificate"),
        (files.certificate, other.key, None, r"other\.key is not the key of .*server\.crt \(KEY_"),
        (locked.certificate, locked.key, None, r"locked\.key is encrypted.*openssl pkey"),
    ):
        config = TlsConfig(certificate=certificate, key=key, client_ca=client_ca)
        with pytest.raises(ConfigError, match=message):
            server_credentials(config)


def test_a_damaged_certificate_is_told_from_a_wrong_key(authority):
    files = authority.issue("server")
    lines = files.certificate.read_text().splitlines(keepends=True)
    files.certificate.write_text("".join([*lines[:2], *lines[-1:]]))
    with pytest.raises(ConfigError, match=r"certificate 1 in .* is damaged"):
        server_credentials(config_of(files))


def test_a_key_that_everybody_may_read_is_warned_of(authority, caplog):
    files = authority.issue("server")
    files.key.chmod(0o644)
    server_credentials(config_of(files))
    assert "everybody may read" in caplog.text


@pytest.mark.parametrize("option", ["certificate", "key", "client_ca"])
def test_options_that_lack_another_one_are_refused(option, tmp_path):
    with pytest.raises(ConfigError, match="not set, expected a file"):
        TlsConfig(**{option: tmp_path / "file.pem"})


@pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 9999])
def test_dates_are_read_in_both_of_their_forms(authority, year):
    from cryptography import x509

    ends = datetime.datetime(year, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    begins = ends.replace(month=1)
    now = datetime.datetime.now(datetime.UTC)
    files = authority.issue("dated", valid=(begins - now, ends - now))
    pem = files.certificate.read_bytes()
    parsed = x509.load_pem_x509_certificate(pem)
    assert list(tls._validities(pem, files.certificate)) == [
        (parsed.not_valid_before_utc, parsed.not_valid_after_utc)
    ]

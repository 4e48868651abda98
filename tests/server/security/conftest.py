"""Certificates made for a test, and servers behind interceptors."""

import contextlib
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """Where a certificate and its key are."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates for 127.0.0.1, which it writes into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key.public_key(), (-9 * DAY, 9 * DAY), ca=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(PEM))

    def issue(self, name, valid=(-1 * DAY, 3650 * DAY), passphrase=None) -> Files:
        """Write `name`.crt and `name`.key; replaces those that are there."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key.public_key(), valid, ca=False)
        files = Files(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        encryption = (
            serialization.BestAvailableEncryption(passphrase)
            if passphrase
            else serialization.NoEncryption()
        )
        files.certificate.write_bytes(certificate.public_bytes(PEM))
        files.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption))
        files.key.chmod(0o600)
        return files

    def _sign(self, name, public_key, valid, *, ca):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self._name))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


def _named(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def other_authority(tmp_path) -> Authority:
    return Authority(tmp_path, "other")


@pytest.fixture
def start_grpc(on_loop):
    """Start gRPC servers, which stop after the test; each with its address."""
    with contextlib.ExitStack() as stack:

        def start(add_services, *, interceptors=(), credentials=None, options=(), port=0) -> str:
            async def begin():
                server = grpc.aio.server(interceptors=interceptors, options=options)
                add_services(server)
                address = f"127.0.0.1:{port}"
                bound = (
                    server.add_secure_port(address, credentials)
                    if credentials
                    else server.add_insecure_port(address)
                )
                await server.start()
                return server, f"127.0.0.1:{bound}"

            server, address = on_loop(begin())
            stack.callback(lambda: on_loop(server.stop(None)))
            return address

        yield start

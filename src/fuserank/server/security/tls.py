"""Encryption of the gRPC port: the server's certificate, and which clients it takes."""

import logging
import re
import ssl
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

from fuserank.errors import ConfigError
from fuserank.server.security.watched_files import WatchedFiles

__all__ = ["TlsConfig", "server_credentials"]

logger = logging.getLogger(__name__)

_CERTIFICATE = re.compile(
    r"-----BEGIN CERTIFICATE-----\s[^-]*-----END CERTIFICATE-----", re.ASCII | re.DOTALL
)
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """The files, all PEM; without a certificate the port is not encrypted.

    They are read again when they have changed, and what does not fit together is not taken.

    Attributes:
        certificate: of the server, followed by those that lead to its authority.
        key: of the certificate, not encrypted.
        client_ca: certificates of the authorities of clients. Where it is set, a client without a
            certificate of one of them is refused.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError where an option lacks another one."""
        for given, needed in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, given) is not None and getattr(self, needed) is None:
                raise ConfigError(f"tls.{needed}: not set, expected a file: tls.{given} is set")
        if self.client_ca is not None and self.certificate is None:
            raise ConfigError(
                "tls.certificate: not set, expected a file: tls.client_ca is set, and clients are "
                "known by their certificates on an encrypted port alone"
            )

    @property
    def enabled(self) -> bool:
        """Whether the port is encrypted."""
        return self.certificate is not None


def server_credentials(config: TlsConfig) -> grpc.ServerCredentials | None:
    """Return credentials that follow the files; None where the port is not to be encrypted.

    A connection that is being made takes what the files hold then. While they hold nothing that
    can be served, the last certificate that could be goes on, and the log says why.

    Raises:
        ConfigError: a file cannot be read or used, or a certificate is out of date.
    """
    if config.certificate is None or config.key is None:
        return None
    certificates = _Certificates(config.certificate, config.key, config.client_ca)
    return grpc.dynamic_ssl_server_credentials(
        certificates.load(), certificates.reload, config.client_ca is not None
    )


class _Certificates:
    """The certificate, key and authorities as gRPC takes them."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._files = WatchedFiles(path for path in (certificate, key, client_ca) if path)
        self._lock = threading.Lock()

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Return what the files held when they were read last.

        Raises:
            ConfigError: they cannot be used.
        """
        while True:
            found = self._checked()
            # The pair was checked by its paths: it must be the one that was read.
            if not self._files.changed():
                return found

    def _checked(self) -> grpc.ServerCertificateConfiguration:
        chain, key, *authorities = self._files.contents
        chain = _readable(chain, "certificate", self._certificate)
        key = _readable(key, "key", self._key)
        for number, (begins, ends) in enumerate(_validities(chain, self._certificate), start=1):
            _check_date(begins, ends, f"tls.certificate: {self._certificate}", number)
        _check_key(key, self._key)
        _check_pair(self._certificate, self._key)
        roots = None
        if self._client_ca is not None:
            roots = _readable(authorities[0], "client_ca", self._client_ca)
            list(_validities(roots, self._client_ca, "client_ca"))
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)

    def reload(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what the files hold; None while that is not new, or of no use.

        gRPC calls it on its own threads for each connection that is made.
        """
        with self._lock:
            try:
                if not self._files.changed():
                    return None
                found = self.load()
            except (ConfigError, OSError) as error:
                logger.error("%s; the certificate that was loaded before goes on", error)
                return None
        logger.info("loaded the certificate in %s", self._certificate)
        return found


def _readable(content: bytes | None, option: str, path: Path) -> bytes:
    if content is not None:
        return content
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"tls.{option}: {path} cannot be read ({error.strerror}), expected a PEM file that the "
            "server's user may read"
        ) from error


def _check_key(key: bytes, path: Path) -> None:
    if b"ENCRYPTED" in key:
        raise ConfigError(
            f"tls.key: {path} is encrypted, expected a key without a passphrase; decrypt it with "
            "'openssl pkey', and let nobody but the server's user read it"
        )
    if b"PRIVATE KEY-----" not in key:
        raise ConfigError(f"tls.key: {path} holds no private key, expected one in PEM")
    if path.stat().st_mode & stat.S_IROTH:
        logger.warning("tls.key: everybody may read %s; chmod 600 it", path)


def _check_pair(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:  # of which SSLError is one
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ConfigError(
            f"tls.key: {key} is not the key of the certificate in {certificate} ({reason}), "
            "expected the two that were made together"
        ) from error


def _check_date(begins: datetime, ends: datetime, path: str, number: int) -> None:
    now = datetime.now(UTC)
    if now > ends:
        raise ConfigError(
            f"{path}: certificate {number} of the file expired on {ends:%Y-%m-%d %H:%M} UTC, "
            "expected one that is valid now; renew it"
        )
    if now < begins:
        raise ConfigError(
            f"{path}: certificate {number} of the file is not valid before {begins:%Y-%m-%d %H:%M} "
            "UTC, expected one that is valid now; look at the clock of this machine"
        )


def _validities(
    pem: bytes, path: Path, option: str = "certificate"
) -> Iterator[tuple[datetime, datetime]]:
    """Yield from when to when each certificate of a file is valid.

    Raises:
        ConfigError: there is none, or one that cannot be read.
    """
    found = _CERTIFICATE.findall(pem.decode("ascii", "replace"))
    if not found:
        raise ConfigError(f"tls.{option}: {path} holds no certificate, expected one or more in PEM")
    for number, text in enumerate(found, start=1):
        try:
            yield _validity(ssl.PEM_cert_to_DER_cert(text))
        except (ValueError, IndexError) as error:
            raise ConfigError(
                f"tls.{option}: certificate {number} in {path} is damaged, expected X.509 in PEM"
            ) from error


def _validity(der: bytes) -> tuple[datetime, datetime]:
    """Return from when to when a certificate is valid, which Python tells of connections alone.

    Source: RFC 5280, sections 4.1 and 4.1.2.5.
    """
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # tbsCertificate
    tag, _, end = _element(der, at)
    if tag == _VERSION:  # which a certificate of version 1 has not
        at = end
    for _ in ("serialNumber", "signature", "issuer"):
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)  # validity
    _, _, end = _element(der, at)
    return _time(der, at), _time(der, end)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of an element, and where its content begins and ends."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length >= 0x80:  # the length of the length
        count = length - 0x80
        length, at = int.from_bytes(der[at : at + count]), at + count
    return tag, at, at + length


def _time(der: bytes, at: int) -> datetime:
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, from 1950 to 2049
        text = ("19" if text >= "5" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {tag} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)

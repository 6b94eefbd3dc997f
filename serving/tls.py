"""Certificates: both ports encrypted, and with a CA of the clients, open only to those that it knows."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.errors import StartFailed

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, kw_only=True)
class Tls:
    """PEM files: the server's chain and key; `client_ca` where clients have to show a certificate of it.

    Raises:
        StartFailed: they cannot be read, or the key is not that of the certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca:
                context.load_verify_locations(self.client_ca)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(path) for path in (self.certificate, self.key, self.client_ca) if path)
            raise StartFailed(f"TLS cannot be set up with {names}: {error}; expected PEM files that match") from error

    def for_grpc(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server."""
        import grpc

        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        ca = self.client_ca.read_bytes() if self.client_ca else None
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

    def for_uvicorn(self) -> dict[str, Any]:
        """Settings of uvicorn."""
        settings: dict[str, Any] = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        if self.client_ca:
            settings |= {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return settings


def tls_of(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """What the command line says; None for no TLS. Raises StartFailed where a half of it is missing."""
    if certificate and key:
        return Tls(certificate=certificate, key=key, client_ca=client_ca)
    if certificate or key or client_ca:
        raise StartFailed("TLS needs both a certificate and its key")
    return None

"""The TLS files of a server: what they are, and whether a server can start with them.

Files are read once, at the start; a renewed certificate is taken up by a restart. Failure: InputError naming the
setting and the file.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from tallygate.core.errors import InputError

CERT_SETTING = "TALLYGATE_TLS_CERT_FILE"
KEY_SETTING = "TALLYGATE_TLS_KEY_FILE"
CLIENT_CA_SETTING = "TALLYGATE_TLS_CLIENT_CA_FILE"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate (its chain after it), its key without passphrase, and who signs clients.

    With `client_ca` a client has to show a certificate that it signed; without, none is asked for.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, certificate: Path | None, key: Path | None, client_ca: Path | None) -> "TlsFiles | None":
        """Return the files, checked, or None when none is set; raise InputError for what cannot be served with."""
        if certificate is None and key is None and client_ca is None:
            return None
        if certificate is None:
            raise InputError(CERT_SETTING, "is not set, another TLS file is", "set certificate and key, or neither")
        if key is None:
            raise InputError(KEY_SETTING, "is not set, another TLS file is", "set certificate and key, or neither")
        files = cls(certificate, key, client_ca)
        files.check()
        return files

    def check(self) -> None:
        """Raise InputError unless the files can be read, are what they should be, and fit together."""
        _check_certificates(CERT_SETTING, self.certificate)
        _read(KEY_SETTING, self.key)
        try:
            # The password keeps OpenSSL from asking for one on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, ValueError):
            mend = f"it has to be PEM, without passphrase, and the key of {self.certificate}"
            raise InputError(KEY_SETTING, f"{self.key} is not the key of the certificate", mend) from None
        if self.client_ca is not None:
            _check_certificates(CLIENT_CA_SETTING, self.client_ca)


def refuse_unix(tls: TlsFiles | None, path: str | None) -> None:
    """Raise InputError for TLS on a Unix socket: no server of ours has it."""
    if tls is not None and path is not None:
        raise InputError(CERT_SETTING, "a Unix socket has no TLS", "listen on a port, or take the TLS files away")


def _check_certificates(setting: str, path: Path) -> None:
    _read(setting, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise InputError(setting, f"{path} holds no certificate in PEM", "it begins with BEGIN CERTIFICATE") from None


def _read(setting: str, path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise InputError(setting, f"{path} cannot be read: {error.strerror}") from None

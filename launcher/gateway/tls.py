"""TLS: for what is bound beyond loopback, and towards providers."""

import ssl
from pathlib import Path

from launcher.errors import LauncherError


def context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What the server proves itself with; raises LauncherError if the files cannot be had or are not a pair."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    renew(made, certificate, key)
    return made


def trust(found: ssl.DefaultVerifyPaths | None = None) -> ssl.SSLContext:
    """What providers' certificates are checked with: this system's authorities, else those that httpx carries.

    SSL_CERT_FILE and SSL_CERT_DIR name others, as for every program with OpenSSL. `found` is where this system has them.
    """
    found = found or ssl.get_default_verify_paths()
    if found.cafile or (found.capath and any(Path(found.capath).iterdir())):
        made = ssl.create_default_context()
    else:
        import httpx

        made = httpx.create_ssl_context()
    made.set_alpn_protocols(["http/1.1"])
    return made


def renew(made: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Prove itself with these files from now on, connections that are open excepted; raises LauncherError as `context`."""
    for path in (certificate, key):
        if not path.is_file():
            raise LauncherError(f"there is no file {path}", hint="--tls-cert and --tls-key name PEM files")
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except _EncryptedError:
        raise LauncherError(
            f"{key} asks for a password", hint="write it out: openssl pkey -in KEY -out PLAIN, and chmod 600"
        ) from None
    except OSError as error:  # SSLError is one
        hint = "both are PEM files; the certificate's own comes before those that sign it"
        raise LauncherError(f"{certificate} and {key} are no pair: {error.strerror or error}", hint=hint) from None


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    """Without this OpenSSL would ask in the terminal, of a process that has none."""
    raise _EncryptedError

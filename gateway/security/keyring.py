"""The keys that open a running server, and whose they are.

Built by the worker, asked by access.py for every request, told to read its file again on SIGHUP.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from gateway.security.key_file import read_keys
from gateway.security.keys import ApiKey, digest
from gateway.settings import ServerSettings
from gateway.tenant import Tenant

# Compared with when an id is unknown, so that this takes as long as a wrong secret.
_NOBODY = ApiKey(id="", sha256=hashlib.sha256(secrets.token_bytes()).hexdigest())


class Keyring:
    """Opens for nobody until its file has been read once."""

    def __init__(self, path: Path, *, may_be_empty: bool = False) -> None:
        """may_be_empty: the file, as long as it has had no keys. One that was emptied, or begins
        so without permission, is taken for a mistake."""
        self._path = path
        self._may_be_empty = may_be_empty
        self._keys: dict[str, ApiKey] = {}

    @classmethod
    def of(cls, server: ServerSettings) -> "Keyring | None":
        """Return the keyring that the settings ask for; None where everybody may come in."""
        if not server.api_keys:
            return None
        return cls(Path(server.api_keys), may_be_empty=server.allow_anonymous)

    def __len__(self) -> int:
        return len(self._keys)

    def reload(self) -> None:
        """Take what the file says now. Raises KeyFileError; the keys stay as they were then."""
        keys = read_keys(self._path, may_be_empty=self._may_be_empty and not self._keys)
        self._keys = {key.id: key for key in keys}

    def find(self, presented: str) -> Tenant | None:
        """Return whose key this is, None for nobody's. Takes the same time for either."""
        kind, _, rest = presented.partition("-")
        key_id, _, secret = rest.partition("-")
        key = self._keys.get(key_id, _NOBODY)
        is_right = hmac.compare_digest(digest(secret), key.sha256)
        return key if is_right and kind == "sk" and key is not _NOBODY else None

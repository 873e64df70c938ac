"""The keys that are good now, and whose a shown one is. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from router.api_keys.key import SETTING_NAME, ApiKey, digest_of
from router.api_keys.scopes import ALL_SCOPES


class Keyring:
    """The key of the setting, which has all scopes, and those of a file.

    Args:
        api_key: the setting; without one there is no such key.
        keys: those of the file, as far as they are known yet.
    """

    def __init__(self, api_key: str = "", keys: Iterable[ApiKey] = ()) -> None:
        self._set = (ApiKey(SETTING_NAME, digest_of(api_key), ALL_SCOPES),) if api_key else ()
        self.replace(keys)

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Have these in the place of those of the file."""
        self._keys = (*self._set, *keys)

    def find(self, shown: bytes) -> ApiKey | None:
        """Return the key that somebody shows, expired ones included; None when it is none of these.

        In constant time: each is compared, whole, whichever it is.
        """
        digest, found = digest_of(shown), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

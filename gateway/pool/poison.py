"""Requests that have ended two groups, remembered for a while so that a retry cannot go on.

Knows requests by a fingerprint of prompt and parameters only. Belongs to ReplicaPool.
"""

import hashlib
import time
from collections import OrderedDict

import msgspec

from backend.wire import messages
from backend.wire.messages import Submit

REFUSED_SECONDS = 600.0
# Each cost two restarts of a group: a thousand is years of them.
MAX_FINGERPRINTS = 1024


class PoisonTable:
    """Fingerprints of the last requests that must not be tried again."""

    def __init__(self) -> None:
        self._expiry_s: OrderedDict[bytes, float] = OrderedDict()

    def add(self, submit: Submit) -> None:
        """Refuse requests like this for REFUSED_SECONDS."""
        self._expiry_s[_fingerprint(submit)] = time.monotonic() + REFUSED_SECONDS
        if len(self._expiry_s) > MAX_FINGERPRINTS:
            self._expiry_s.popitem(last=False)

    def __contains__(self, submit: Submit) -> bool:
        if not self._expiry_s:
            return False
        return self._expiry_s.get(_fingerprint(submit), 0.0) > time.monotonic()


def _fingerprint(submit: Submit) -> bytes:
    """Hash what a retry repeats; a seed that the caller did not give is drawn anew."""
    params = msgspec.structs.replace(submit.params, seed=0, choice=0)
    bare = Submit(0, submit.prompt_ids, [], params)
    return hashlib.blake2b(messages.encode(bare), digest_size=16).digest()

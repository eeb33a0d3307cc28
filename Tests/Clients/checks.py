"""What the client scripts share: arguments, and values that must come back as they went."""

import sys

URL = sys.argv[1].rstrip("/")
VALUES = [
    None, 0, 1, -1, 2**31, -(2**53) - 1, 2**63 - 1, -(2**63), 0.5, -1e300, "", "Grüße, 世界 \U0001f600",
    "it's \"quoted\"\n", b"", bytes(range(256)),
]


def same(got, want, what):
    if type(got) is not type(want) or got != want:
        raise AssertionError(f"{what}: {got!r} instead of {want!r}")


def done():
    print("ok")

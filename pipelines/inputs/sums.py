"""Which checksum does a list give a file?

Lists are as sha256sum and sha512sum print them, with or without --tag: "DIGEST *NAME", "SHA256 (NAME) = DIGEST".
"""

import re

from pipelines.util.errors import BuildError

_PLAIN = re.compile(r"(?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{128}) [ *](?:\./)?(?P<name>.+)")
_TAGGED = re.compile(r"SHA(?:256|512) \((?:\./)?(?P<name>.+)\) = (?P<digest>[0-9a-fA-F]{64}|[0-9a-fA-F]{128})")


def find(text: str, name: str) -> str:
    """The digest of the file `name`, in lower case: 64 digits of SHA-256 where the list has it, else 128 of SHA-512.

    BuildError when the list has none, or contradicts itself.
    """
    lines = (_PLAIN.fullmatch(line) or _TAGGED.fullmatch(line) for line in map(str.strip, text.splitlines()))
    entries = [(match["name"], match["digest"].lower()) for match in lines if match]
    for digits in (64, 128):
        digests = {digest for listed, digest in entries if listed == name and len(digest) == digits}
        if len(digests) == 1:
            return digests.pop()
        if digests:
            raise BuildError(f"the checksums give {name} {len(digests)} times, differently", remedy="Ask their maker.")
    there = ", ".join(sorted({listed for listed, _ in entries})[:5]) or "no file at all"
    remedy = f"Correct the URL in images.yaml. The list has: {there}."
    raise BuildError(f"the checksums do not have {name}", remedy=remedy)

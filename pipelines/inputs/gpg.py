"""OpenPGP signatures, verified by GnuPG.

Only a good signature by exactly the pinned key counts. GnuPG runs in a temporary home, so that the operator's keys,
trust and agent have no influence.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.util import process
from pipelines.util.errors import BuildError, CatalogError

DEADLINE_SECONDS = 60
# OpenPGP's numbers of hash algorithms that no longer prove anything (RFC 9580, 9.5).
_BROKEN_HASHES = {"1": "MD5", "2": "SHA-1", "3": "RIPEMD-160"}
_RENEW = "If its owner has renewed or replaced it, update the pinned key (`signed_by`, `keyring`) from a public source."
_WHY_NOT = {
    "BADSIG": ("was changed after it was signed", "Do not use it. Try again later, or ask its publisher."),
    "EXPSIG": ("has a signature that has expired", "Ask its publisher for a new signature."),
    "EXPKEYSIG": ("is signed by a key that has expired", _RENEW),
    "REVKEYSIG": ("is signed by a key that its owner has revoked", f"Do not use the file. {_RENEW}"),
}

Status = tuple[str, ...]  # one line of gpg's --status-fd: a keyword and its arguments


def verify(data: Path, signature: Path | None, fingerprint: str, *, keyring: Path) -> bytes:
    """The signed content of `data`; BuildError unless the key `fingerprint` (40 hex digits) signed it.

    `signature` is a detached one; None for a file that is signed inline ("clearsigned"), whose content is returned
    without what surrounds it. `keyring` is a file with the public key, binary or armoured; CatalogError when it does
    not exist or does not have that key.
    """
    if not keyring.is_file():
        raise CatalogError(f"the keyring {keyring} does not exist", remedy="Correct `base.keyring` in images.yaml.")
    pinned = fingerprint.upper()
    gpg = process.require("gpg", "gpg")
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        argv = [gpg, "--homedir", home, "--batch", "--no-tty", "--no-auto-key-retrieve", "--trust-model", "always"]
        _import(argv, keyring, pinned)
        content = Path(home) / "content"
        status = _status(argv, data, signature, content)
        _require_good(status, data.name, pinned)
        if signature is not None:
            return data.read_bytes()
        if any(line[0] == "ERROR" for line in status):  # gpg stops at a second text, and the first looks good
            what = f"{data.name} contains more than one signed text"
            raise BuildError(what, remedy="Do not use it; ask its publisher.")
        return content.read_bytes()


def _import(argv: Sequence[str], keyring: Path, pinned: str) -> None:
    """Make the keyring's keys known; CatalogError when the pinned one is not among them."""
    process.run([*argv, "--import", str(keyring)], deadline=DEADLINE_SECONDS, check=False)
    listed = process.run(
        [*argv, "--with-colons", "--with-subkey-fingerprint", "--list-keys"], deadline=DEADLINE_SECONDS, check=False
    ).stdout
    known = {line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")}
    if pinned not in known:
        found = ", ".join(sorted(known)) or "none"
        what = f"the keyring {keyring} does not have the key {pinned}; it has: {found}"
        raise CatalogError(what, remedy="Correct `signed_by` or `keyring` in images.yaml.")


def _status(argv: Sequence[str], data: Path, signature: Path | None, content: Path) -> tuple[Status, ...]:
    """gpg's status lines about the signatures, which are more precise than its exit code."""
    command = ["--output", str(content), "--decrypt", str(data)]
    if signature is not None:
        command = ["--verify", str(signature), str(data)]
    result = process.run([*argv, "--status-fd", "1", *command], deadline=DEADLINE_SECONDS, check=False)
    lines = (line.removeprefix("[GNUPG:] ") for line in result.stdout.splitlines() if line.startswith("[GNUPG:] "))
    return tuple(tuple(line.split()) for line in lines if line)


def _require_good(status: Sequence[Status], name: str, pinned: str) -> None:
    """BuildError unless one of the signatures is by the pinned key and good, and none is broken."""
    signed = [{line[0]: line for line in one} for one in _signatures(status)]
    for words in signed:
        for word, (what, remedy) in _WHY_NOT.items():
            if word in words and (word == "BADSIG" or pinned in _signers(words)):
                raise BuildError(f"{name} {what} (pinned key: {pinned})", remedy=remedy)
    for words in signed:
        if "GOODSIG" in words and pinned in _signers(words):
            if (weak := _BROKEN_HASHES.get(words["VALIDSIG"][8])) is not None:
                raise BuildError(f"{name} is signed with {weak}, which can be forged", remedy=_RENEW)
            return
    others = ", ".join(signer for words in signed for signer in _signers(words)[:1])
    how = f"is signed by {others}, not by the pinned key {pinned}" if others else "has no signature"
    raise BuildError(f"{name} {how}", remedy=f"Do not use it. {_RENEW}")


def _signatures(status: Sequence[Status]) -> Iterator[list[Status]]:
    """The status lines of each signature; NEWSIG starts one."""
    current: list[Status] = []
    for line in status:
        if line[0] == "NEWSIG":
            yield current
            current = []
        current.append(line)
    yield current


def _signers(words: Mapping[str, Status]) -> tuple[str, ...]:
    """The fingerprints of the key that signed and of its primary key, as far as they are known."""
    if line := words.get("VALIDSIG"):
        return (line[1], line[-1])
    return (words["ERRSIG"][-1],) if "ERRSIG" in words else ()  # a signature by a key that is not in the keyring

"""Who signed this file?

One question to GnuPG, with one answer that counts: a good signature by exactly the pinned key. A home of its own that
is thrown away keeps the operator's keys, trust and agent out of it.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.catalog import signing_keys
from pipelines.util import process
from pipelines.util.errors import BuildError, CatalogError

DEADLINE_SECONDS = 60
# OpenPGP's numbers of hash algorithms that no longer prove anything (RFC 9580, 9.5).
_BROKEN_HASHES = {"1": "MD5", "2": "SHA-1", "3": "RIPEMD-160"}
_RENEW = "If its maker has renewed or replaced it, update the pinned key (`signed_by`, `keyring`) from a public source."
_WHY_NOT = {
    "BADSIG": ("was changed after it was signed", "Do not use it. Try again later, or ask its maker."),
    "EXPSIG": ("has a signature that has expired", "Ask its maker for a fresh one."),
    "EXPKEYSIG": ("is signed by a key that has expired", _RENEW),
    "REVKEYSIG": ("is signed by a key that its owner revoked", f"Do not use the file. {_RENEW}"),
}

Status = tuple[str, ...]  # one line of gpg's --status-fd: a keyword and its arguments


def verify(data: Path, signature: Path | None, fingerprint: str, keyring: Path | None) -> bytes:
    """The signed content of `data`; BuildError unless the key `fingerprint` (40 hex digits) signed it.

    `signature` is a detached one; None for a file that is signed inline ("clearsigned"), whose content is returned
    without what surrounds it. `keyring` is a file with the public key, binary or armoured; None for a key that
    keys.yaml knows.
    """
    pinned = fingerprint.upper()
    gpg = process.require("gpg", "gpg")
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        argv = [gpg, "--homedir", home, "--batch", "--no-tty", "--no-auto-key-retrieve", "--trust-model", "always"]
        _import(argv, _keyring(pinned, keyring), pinned)
        content = Path(home) / "content"
        said = _ask(argv, data, signature, content)
        _require_good(said, data.name, pinned)
        if signature is not None:
            return data.read_bytes()
        if any(line[0] == "ERROR" for line in said):  # gpg stops at a second text, and the first looks good
            raise BuildError(f"{data.name} has more than one signed text", remedy="Do not use it; ask its maker.")
        return content.read_bytes()


def _keyring(pinned: str, given: Path | None) -> Path:
    found = given or signing_keys.keyring(pinned)
    if found is None:
        what = f"no file is given that has the public key {pinned}"
        raise CatalogError(what, remedy="Get the key from a public source, and name its file as `base.keyring`.")
    if not found.is_file():
        raise CatalogError(f"the keyring {found} is not there", remedy="Correct `base.keyring` in images.yaml.")
    return found


def _import(argv: Sequence[str], keyring: Path, pinned: str) -> None:
    """Make the keyring's keys known; CatalogError when the pinned one is not among them."""
    process.run([*argv, "--import", str(keyring)], deadline=DEADLINE_SECONDS, check=False)
    listed = process.run(
        [*argv, "--with-colons", "--with-subkey-fingerprint", "--list-keys"], deadline=DEADLINE_SECONDS, check=False
    ).stdout
    there = {line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")}
    if pinned not in there:
        found = ", ".join(sorted(there)) or "none"
        what = f"the keyring {keyring} does not have the key {pinned}; it has: {found}"
        raise CatalogError(what, remedy="Correct `signed_by` or `keyring` in images.yaml.")


def _ask(argv: Sequence[str], data: Path, signature: Path | None, content: Path) -> tuple[Status, ...]:
    """What gpg says of the signatures; its exit code says less than its status lines."""
    verb = ["--output", str(content), "--decrypt", str(data)]
    if signature is not None:
        verb = ["--verify", str(signature), str(data)]
    result = process.run([*argv, "--status-fd", "1", *verb], deadline=DEADLINE_SECONDS, check=False)
    lines = (line.removeprefix("[GNUPG:] ") for line in result.stdout.splitlines() if line.startswith("[GNUPG:] "))
    return tuple(tuple(line.split()) for line in lines if line)


def _require_good(said: Sequence[Status], name: str, pinned: str) -> None:
    """BuildError unless one of the signatures is by the pinned key and good, and none is broken."""
    signed = [{line[0]: line for line in one} for one in _each(said)]
    for words in signed:
        for word, (what, remedy) in _WHY_NOT.items():
            if word in words and (word == "BADSIG" or pinned in _signers(words)):
                raise BuildError(f"{name} {what} (pinned key: {pinned})", remedy=remedy)
    for words in signed:
        if "GOODSIG" in words and pinned in _signers(words):
            if (weak := _BROKEN_HASHES.get(words["VALIDSIG"][8])) is not None:
                raise BuildError(f"{name} is signed over {weak}, which proves nothing", remedy=_RENEW)
            return
    others = ", ".join(signer for words in signed for signer in _signers(words)[:1])
    by = f"by {others}, not by the pinned key {pinned}" if others else "by nobody"
    raise BuildError(f"{name} is signed {by}", remedy=f"Do not use it. {_RENEW}")


def _each(said: Sequence[Status]) -> Iterator[list[Status]]:
    """The status lines of each signature; NEWSIG begins one."""
    current: list[Status] = []
    for line in said:
        if line[0] == "NEWSIG":
            yield current
            current = []
        current.append(line)
    yield current


def _signers(words: Mapping[str, Status]) -> tuple[str, ...]:
    """The fingerprints of the key that signed and of its primary key, as far as they are known."""
    if line := words.get("VALIDSIG"):
        return (line[1], line[-1])
    return (words["ERRSIG"][-1],) if "ERRSIG" in words else ()  # a signature by a key that we do not have

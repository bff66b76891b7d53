"""An rpm package made from a few files, and a repository of packages."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.standins.deb import write
from tests.support.standins.keys import Key

# Nothing of the files is stripped, compressed or looked into; the tests say what a package needs.
_PREAMBLE = """\
%global __os_install_post %{{nil}}
%global debug_package %{{nil}}
%global _build_id_links none
AutoReqProv: no
Name: {name}
Epoch: {epoch}
Version: {version}
Release: {release}
Summary: stand-in for a vendor's package of this name
License: none
{fields}
%description
Stand-in for a vendor's package of this name.
{scripts}
%files
{files}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rpm:
    """A package. Files are path → content, links path → target, scripts `post` and so on → shell.

    `fields` are further lines of the spec file: Requires, Provides, Conflicts; several of a kind go into one value.
    """

    name: str
    version: str = "1.0"
    release: str = "1"
    epoch: int = 0
    architecture: str = "x86_64"
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """Its file's name, without the epoch."""
        return f"{self.name}-{self.version}-{self.release}.{self.architecture}.rpm"

    @property
    def nevra(self) -> str:
        """Name, epoch, version, release and architecture, as a module lists its packages."""
        return f"{self.name}-{self.epoch}:{self.version}-{self.release}.{self.architecture}"


def build(packages: Iterable[Rpm], folder: Path) -> tuple[Path, ...]:
    """Build packages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_build(package, folder) for package in packages)


def publish(root: Path, packages: Iterable[Path], key: Key | None = None, *, modules: str = "") -> None:
    """A repository below `root`: packages, signed where there is a key, index, and modules (modulemd) if any."""
    root.mkdir(parents=True, exist_ok=True)
    copies = [Path(shutil.copyfile(package, root / package.name)) for package in packages]
    if key is not None and copies:
        _sign(copies, key)
    subprocess.run(["createrepo_c", "--quiet", root], check=True, capture_output=True)
    if modules:
        (root / "modules.yaml").write_text(modules)
        argv = ["modifyrepo_c", "--mdtype=modules", root / "modules.yaml", root / "repodata"]
        subprocess.run(argv, check=True, capture_output=True)


def module(name: str, stream: str, packages: Iterable[Rpm]) -> str:
    """One stream of a module, as a document of modules.yaml."""
    artifacts = "\n".join(f"    - {package.nevra}" for package in packages)
    return f"""\
---
document: modulemd
version: 2
data:
  name: {name}
  stream: "{stream}"
  version: 1
  context: "00000000"
  arch: x86_64
  summary: stand-in
  description: stand-in
  license:
    module: [none]
  artifacts:
    rpms:
{artifacts}
"""


def _build(package: Rpm, folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as scratch:
        root, top = Path(scratch, "root"), Path(scratch, "top")
        root.mkdir()
        for path, content in package.files.items():
            write(root / path.lstrip("/"), content)
        for path, leads_to in package.links.items():
            (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / path.lstrip("/")).symlink_to(leads_to)
        spec = Path(scratch, "package.spec")
        spec.write_text(_spec(package))
        options = ["--quiet", "--target", package.architecture, "--define", f"_topdir {top}"]
        # rpmbuild empties its own build root, so the files lie elsewhere until %install copies them.
        options += ["--define", f"standin {root}", "--define", f"_rpmdir {top}"]
        subprocess.run(["rpmbuild", "-bb", *options, spec], check=True, capture_output=True)
        (built,) = top.rglob("*.rpm")
        return Path(shutil.move(built, folder / package.filename))


def _spec(package: Rpm) -> str:
    fields = [f"{name}: {value}" for name, value in package.fields.items()]
    fields += ["BuildArch: noarch"] if package.architecture == "noarch" else []
    scripts = ["%install", "cp -a %{standin}/. %{buildroot}/"]
    for name, script in package.scripts.items():
        scripts += [f"%{name}", script]
    return _PREAMBLE.format(
        name=package.name,
        epoch=package.epoch,
        version=package.version,
        release=package.release,
        fields="\n".join(fields),
        scripts="\n".join(scripts),
        files="\n".join(f'"{path}"' for path in (*package.files, *package.links)),
    )


def _sign(packages: list[Path], key: Key) -> None:
    with key.home() as home:
        settings = (f"_gpg_name {key.fingerprint}", f"_gpg_path {home}", f"__gpg {shutil.which('gpg')}")
        options = [word for setting in settings for word in ("--define", setting)]
        subprocess.run(["rpmsign", "--addsign", *options, *packages], check=True, capture_output=True)

"""Reasons for each selection of a driver and for each refusal, one sentence each."""

from collections.abc import Iterator, Sequence

from pipelines.gpus.database import Gpu, Modules, Release, cuda_version, facts
from pipelines.gpus.request import Request


def unserved(gpus: Sequence[Gpu], branches: Sequence[int]) -> str:
    """Why some GPU is served by none of the branches."""
    gpu = next(gpu for gpu in gpus if not any(gpu.serves(branch) for branch in branches))
    last = gpu.generation.last_branch
    if last is not None and last < min(branches):
        return f"{_is(gpu)}, whose last branch is {last}"
    return f"{gpu.label} needs branch {gpu.first_branch} or newer"


def undriven(gpus: Sequence[Gpu], modules: Modules, branch: int | None) -> str:
    """Why there are no such modules."""
    for gpu in gpus:
        if modules not in gpu.generation.modules:
            return f"{_is(gpu)}, which works with {gpu.generation.modules[0]} modules only"
    return f"branch {branch} has no {modules} modules"


def apart(one: Gpu, other: Gpu) -> str:
    """Why two GPUs have no driver in common."""
    return f"{one.label} needs {one.generation.modules[0]} modules and {other.label} {other.generation.modules[0]} ones"


def unoffered(source: str, release: Release) -> str:
    """Why a source has nothing for a release."""
    if source == "precompiled":
        return f"{release.label} has no precompiled NVIDIA modules; only Ubuntu compiles and signs such modules"
    return f"{_place(source, release)} has no NVIDIA driver"


def offered(source: str, release: Release) -> str:
    """What a source has for a release."""
    branches = release.offers[source]
    if len(branches) == 1:
        return f"{_place(source, release)} has only driver {branches[0]}"
    return f"{_place(source, release)} has drivers {', '.join(map(str, branches[:-1]))} and {branches[-1]}"


def why_branch(request: Request, gpus: Sequence[Gpu], release: Release, branch: int) -> str:
    """Why this branch."""
    if request.version is not None:
        return f"branch {branch}: that of version {request.version}"
    if request.branch is not None:
        return f"branch {branch}: as requested"
    if len(release.offers[request.source]) == 1:
        return f"branch {branch}: {_place(request.source, release)} has no other"
    for gpu in gpus:
        if gpu.generation.last_branch == branch:
            return f"branch {branch}: {_is(gpu)}, whose last branch it is"
    return f"branch {branch}: the newest {facts().branches[branch].kind} branch in {_place(request.source, release)}"


def why_modules(request: Request, gpus: Sequence[Gpu], branch: int, modules: Modules) -> str:
    """Why these modules."""
    for gpu in gpus:
        if gpu.generation.modules == (modules,):
            return f"{modules} modules: {_is(gpu)}, which works with these only"
    if facts().branches[branch].modules == (modules,):
        return f"{modules} modules: branch {branch} has no others"
    if request.modules != "auto":
        return f"{modules} modules: as requested"
    turing = "" if gpus or modules == "proprietary" else "; they work with Turing and newer (no `gpus` are named)"
    return f"{modules} modules: the default of branch {branch}{turing}"


def why_toolkit(
    toolkit: str | None, request: Request, gpus: Sequence[Gpu], release: Release, branch: int
) -> Iterator[str]:
    """Why this CUDA toolkit fits the branch and the GPUs; nothing where none is requested."""
    version = release.toolkit if toolkit == "archive" else toolkit
    if version is None:
        return
    why = {"archive": f"the one in {release.label}'s archive", "auto": _newest(gpus, branch)}
    yield f"CUDA {version}: {why.get(request.toolkit or '', 'as requested')}"
    came_with = facts().toolkits[version]
    if branch < came_with:
        yield f"CUDA {version} came with branch {came_with}; {branch} runs it by minor version compatibility"
    for gpu in gpus:
        if cuda_version(version) < cuda_version(gpu.first_cuda):
            yield f"CUDA {version} is older than {gpu.label} ({gpu.first_cuda}), which runs its programs from PTX only"


def _newest(gpus: Sequence[Gpu], branch: int) -> str:
    limiting = next((gpu for gpu in gpus if gpu.generation.last_cuda is not None), None)
    compiled = f" and that compiles for {limiting.generation.label}" if limiting else ""
    return f"the newest that is no newer than branch {branch}{compiled}"


def _is(gpu: Gpu) -> str:
    return f"{gpu.label} is {gpu.generation.label}"


def _place(source: str, release: Release) -> str:
    named = {"nvidia-repo": "NVIDIA's repository for {}", "precompiled": "{}'s set of precompiled modules"}
    return named.get(source, "{}'s own archive").format(release.label)

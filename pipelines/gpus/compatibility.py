"""Rules between GPUs, driver branch, kernel modules, CUDA toolkit and driver source."""

from collections.abc import Callable, Sequence

from pipelines.gpus import explanations
from pipelines.gpus.database import ANY_BRANCH, Gpu, Modules, Release, cuda_version, facts, known, models_of
from pipelines.gpus.request import Impossible, Request, Selection

_Pairs = frozenset[tuple[int, Modules]]  # branches, each with one flavour of its modules


def select(request: Request) -> Selection:
    """The driver for a request; Impossible, with the reason, where a rule is broken."""
    gpus, release = gpus_of(request.gpus), _release(request)
    pairs: _Pairs = frozenset((branch.number, one) for branch in facts().branches.values() for one in branch.modules)
    if request.source == "none":
        _by_toolkit(request, gpus, release, pairs)
        toolkit = _toolkit(request, gpus, max(facts().branches))
        return Selection(branch=None, modules="open", toolkit=toolkit, reasons=("no driver is installed",))
    for narrow in _RULES:
        pairs = narrow(request, gpus, release, pairs)
    if request.source in ANY_BRANCH and request.requested_branch is None:
        return _undecided(request, gpus)
    branch = next(number for number in facts().preferred() if any(number == each for each, _ in pairs))
    modules, toolkit = _flavour(branch, pairs), _toolkit(request, gpus, branch)
    reasons = (
        explanations.why_branch(request, gpus, release, branch),
        explanations.why_modules(request, gpus, branch, modules),
        *explanations.why_toolkit(toolkit, request, gpus, release, branch),
    )
    return Selection(branch=branch, modules=modules, toolkit=toolkit, reasons=reasons)


def gpus_of(names: Sequence[str]) -> tuple[Gpu, ...]:
    """The models behind names of models and generations, each once; Impossible for an unknown one."""
    if unknown := [name for name in names if name not in known()]:
        raise Impossible(f"{unknown[0]} is not in pipelines/gpus/gpus.yaml")
    return tuple(facts().gpus[model] for model in dict.fromkeys(model for name in names for model in models_of(name)))


def _release(request: Request) -> Release:
    found = facts().releases.get(f"{request.distribution} {request.release}")
    if found is None:
        raise Impossible(f"{request.distribution} {request.release} is not in pipelines/gpus/gpus.yaml")
    return found


# --- The rules: each leaves the branches and modules that it allows, or raises Impossible with the reason -------------


def _by_architecture(request: Request, gpus: Sequence[Gpu], _: Release, pairs: _Pairs) -> _Pairs:
    for gpu in gpus:
        if gpu.generation.architecture not in {None, request.architecture}:
            what = f"{gpu.label} is one module with an {gpu.generation.architecture} processor"
            raise Impossible(f"{what}, but the image is for {request.architecture}")
    return pairs


def _by_gpus(_: Request, gpus: Sequence[Gpu], __: Release, pairs: _Pairs) -> _Pairs:
    left = pairs
    for at, gpu in enumerate(gpus):
        left = left & _driving(gpu, pairs)
        if not left:
            other = next(each for each in gpus[:at] if not _driving(each, pairs) & _driving(gpu, pairs))
            raise Impossible(explanations.apart(other, gpu))
    return left


def _by_branch(request: Request, gpus: Sequence[Gpu], _: Release, pairs: _Pairs) -> _Pairs:
    requested = request.requested_branch
    if requested is None:
        return pairs
    if request.branch not in {None, requested}:
        raise Impossible(f"version {request.version} is not of branch {request.branch}")
    if requested not in facts().branches:
        raise Impossible(f"driver branch {requested} is not in pipelines/gpus/gpus.yaml")
    left = frozenset(pair for pair in pairs if pair[0] == requested)
    if not left:
        raise Impossible(explanations.unserved(gpus, [requested]))
    return left


def _by_modules(request: Request, gpus: Sequence[Gpu], _: Release, pairs: _Pairs) -> _Pairs:
    if request.modules == "auto":
        return pairs
    left = frozenset(pair for pair in pairs if pair[1] == request.modules)
    if not left:
        raise Impossible(explanations.undriven(gpus, request.modules, request.requested_branch))
    return left


def _by_toolkit(request: Request, gpus: Sequence[Gpu], release: Release, pairs: _Pairs) -> _Pairs:
    version = release.toolkit if request.toolkit == "archive" else request.toolkit
    if version in {None, "auto"}:
        if request.toolkit == "archive":
            raise Impossible(f"{release.label}'s own archive has no CUDA toolkit")
        return pairs
    if version not in facts().toolkits:
        raise Impossible(f"CUDA {version} is not in pipelines/gpus/gpus.yaml")
    major = cuda_version(version)[0]
    for gpu in gpus:
        if gpu.generation.last_cuda is not None and major > gpu.generation.last_cuda:
            raise Impossible(f"CUDA {major} no longer compiles for {gpu.generation.label} ({gpu.label})")
    oldest = facts().minimum_branch[major]
    left = frozenset(pair for pair in pairs if pair[0] >= oldest)
    if not left:
        raise Impossible(f"CUDA {version} needs branch {oldest} or newer, not {request.requested_branch}")
    return left


def _by_source(request: Request, gpus: Sequence[Gpu], release: Release, pairs: _Pairs) -> _Pairs:
    if request.source in ANY_BRANCH:
        return pairs
    branches = release.offers.get(request.source, ())
    if not branches:
        raise Impossible(explanations.unoffered(request.source, release))
    left = frozenset(pair for pair in pairs if pair[0] in branches)
    if left:
        return left
    offered = explanations.offered(request.source, release)
    if request.requested_branch is not None:
        raise Impossible(f"{offered}, not {request.requested_branch}")
    if all(any(gpu.serves(branch) for branch in branches) for gpu in gpus):
        raise Impossible(f"{offered}, and CUDA {request.toolkit} needs {min(branch for branch, _ in pairs)} or newer")
    raise Impossible(f"{offered}, and {explanations.unserved(gpus, branches)}")


# In the order in which an operator is told: first what no source can change.
_RULES: Sequence[Callable[[Request, Sequence[Gpu], Release, _Pairs], _Pairs]] = (
    _by_architecture,
    _by_gpus,
    _by_branch,
    _by_modules,
    _by_toolkit,
    _by_source,
)


# --- The selection --------------------------------------------------------------------------------------------------


def _driving(gpu: Gpu, pairs: _Pairs) -> _Pairs:
    return frozenset(pair for pair in pairs if gpu.serves(pair[0]) and pair[1] in gpu.generation.modules)


def _flavour(branch: int, pairs: _Pairs) -> Modules:
    flavours = {modules for number, modules in pairs if number == branch}
    default = facts().branches[branch].default
    return default if default in flavours else flavours.pop()


def _toolkit(request: Request, gpus: Sequence[Gpu], branch: int) -> str | None:
    """The CUDA toolkit: as requested, or the newest that the branch came with and all GPUs are compiled for."""
    if request.toolkit != "auto":
        return request.toolkit
    newest = min((gpu.generation.last_cuda for gpu in gpus if gpu.generation.last_cuda is not None), default=None)
    fitting = (
        version
        for version, came_with in facts().toolkits.items()
        if came_with <= branch and (newest is None or cuda_version(version)[0] <= newest)
    )
    return max(fitting, key=cuda_version)


def _undecided(request: Request, gpus: Sequence[Gpu]) -> Selection:
    """The selection for given files of a branch that is not named, which therefore serve no certain GPU or toolkit."""
    any_branch = f"a driver from `source: {request.source}` can be of any branch"
    if gpus:
        raise Impossible(f"{any_branch}, and not every branch serves {gpus[0].label}")
    if request.toolkit == "auto":
        raise Impossible(f"{any_branch}, so no toolkit can be selected for it")
    modules: Modules = "proprietary" if request.modules == "proprietary" else "open"
    why = "as requested" if request.modules == modules else "the default since branch 560, for Turing and newer"
    reasons = ("branch: that of the given files", f"{modules} modules: {why}")
    return Selection(branch=None, modules=modules, toolkit=request.toolkit, reasons=reasons)

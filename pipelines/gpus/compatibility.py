"""What works with what?

The rules between GPUs, driver branch, kernel modules, CUDA toolkit and driver source. What to do where one is broken is
gpus.py's answer.
"""

from collections.abc import Callable, Sequence

from pipelines.gpus import explanations
from pipelines.gpus.database import ANY_BRANCH, Gpu, Modules, Release, cuda_version, facts, known, models_of
from pipelines.gpus.request import Choice, Refused, Wish

_Pairs = frozenset[tuple[int, Modules]]  # branches, each with one flavour of its modules


def decide(wish: Wish) -> Choice:
    """The driver for a wish; Refused where a rule is broken."""
    gpus, release = gpus_of(wish.gpus), _release(wish)
    pairs: _Pairs = frozenset((branch.number, one) for branch in facts().branches.values() for one in branch.modules)
    if wish.source == "none":
        _by_toolkit(wish, gpus, release, pairs)
        toolkit = _toolkit(wish, gpus, max(facts().branches))
        return Choice(branch=None, modules="open", toolkit=toolkit, reasons=("no driver is installed",))
    for narrow in _RULES:
        pairs = narrow(wish, gpus, release, pairs)
    if wish.source in ANY_BRANCH and wish.asked_branch is None:
        return _undecided(wish, gpus)
    branch = next(number for number in facts().preferred() if any(number == each for each, _ in pairs))
    modules, toolkit = _flavour(branch, pairs), _toolkit(wish, gpus, branch)
    reasons = (
        explanations.why_branch(wish, gpus, release, branch),
        explanations.why_modules(wish, gpus, branch, modules),
        *explanations.why_toolkit(toolkit, wish, gpus, release, branch),
    )
    return Choice(branch=branch, modules=modules, toolkit=toolkit, reasons=reasons)


def gpus_of(names: Sequence[str]) -> tuple[Gpu, ...]:
    """The models behind names of models and generations, each once; Refused for an unknown one."""
    if unknown := [name for name in names if name not in known()]:
        raise Refused(f"{unknown[0]} is no GPU that pipelines/gpus/gpus.yaml knows")
    return tuple(facts().gpus[model] for model in dict.fromkeys(model for name in names for model in models_of(name)))


def _release(wish: Wish) -> Release:
    found = facts().releases.get(f"{wish.distribution} {wish.release}")
    if found is None:
        raise Refused(f"{wish.distribution} {wish.release} is not in pipelines/gpus/gpus.yaml")
    return found


# --- The rules: each leaves the branches and modules that obey it, or says why there are none -------------------------


def _by_architecture(wish: Wish, gpus: Sequence[Gpu], _: Release, pairs: _Pairs) -> _Pairs:
    for gpu in gpus:
        if gpu.generation.architecture not in {None, wish.architecture}:
            what = f"{gpu.label} is one module with an {gpu.generation.architecture} processor"
            raise Refused(f"{what}, and the image is for {wish.architecture}")
    return pairs


def _by_gpus(_: Wish, gpus: Sequence[Gpu], __: Release, pairs: _Pairs) -> _Pairs:
    left = pairs
    for at, gpu in enumerate(gpus):
        left = left & _driving(gpu, pairs)
        if not left:
            other = next(each for each in gpus[:at] if not _driving(each, pairs) & _driving(gpu, pairs))
            raise Refused(explanations.apart(other, gpu))
    return left


def _by_branch(wish: Wish, gpus: Sequence[Gpu], _: Release, pairs: _Pairs) -> _Pairs:
    asked = wish.asked_branch
    if asked is None:
        return pairs
    if wish.branch not in {None, asked}:
        raise Refused(f"version {wish.version} is not of branch {wish.branch}")
    if asked not in facts().branches:
        raise Refused(f"driver branch {asked} is not in pipelines/gpus/gpus.yaml")
    left = frozenset(pair for pair in pairs if pair[0] == asked)
    if not left:
        raise Refused(explanations.unserved(gpus, [asked]))
    return left


def _by_modules(wish: Wish, gpus: Sequence[Gpu], _: Release, pairs: _Pairs) -> _Pairs:
    if wish.modules == "auto":
        return pairs
    left = frozenset(pair for pair in pairs if pair[1] == wish.modules)
    if not left:
        raise Refused(explanations.undriven(gpus, wish.modules, wish.asked_branch))
    return left


def _by_toolkit(wish: Wish, gpus: Sequence[Gpu], release: Release, pairs: _Pairs) -> _Pairs:
    version = release.toolkit if wish.toolkit == "archive" else wish.toolkit
    if version in {None, "auto"}:
        if wish.toolkit == "archive":
            raise Refused(f"{release.label}'s own archive has no CUDA toolkit")
        return pairs
    if version not in facts().toolkits:
        raise Refused(f"CUDA {version} is not in pipelines/gpus/gpus.yaml")
    major = cuda_version(version)[0]
    for gpu in gpus:
        if gpu.generation.last_cuda is not None and major > gpu.generation.last_cuda:
            raise Refused(f"CUDA {major} no longer compiles for {gpu.generation.label} ({gpu.label})")
    oldest = facts().minimum_branch[major]
    left = frozenset(pair for pair in pairs if pair[0] >= oldest)
    if not left:
        raise Refused(f"CUDA {version} needs branch {oldest} or newer, not {wish.asked_branch}")
    return left


def _by_source(wish: Wish, gpus: Sequence[Gpu], release: Release, pairs: _Pairs) -> _Pairs:
    if wish.source in ANY_BRANCH:
        return pairs
    branches = release.offers.get(wish.source, ())
    if not branches:
        raise Refused(explanations.unoffered(wish.source, release))
    left = frozenset(pair for pair in pairs if pair[0] in branches)
    if left:
        return left
    has = explanations.offered(wish.source, release)
    if wish.asked_branch is not None:
        raise Refused(f"{has}, not {wish.asked_branch}")
    if all(any(gpu.serves(branch) for branch in branches) for gpu in gpus):
        raise Refused(f"{has}, and CUDA {wish.toolkit} needs {min(branch for branch, _ in pairs)} or newer")
    raise Refused(f"{has}, and {explanations.unserved(gpus, branches)}")


# In the order in which an operator is told: what no source can help with comes first.
_RULES: Sequence[Callable[[Wish, Sequence[Gpu], Release, _Pairs], _Pairs]] = (
    _by_architecture,
    _by_gpus,
    _by_branch,
    _by_modules,
    _by_toolkit,
    _by_source,
)


# --- What is left ---------------------------------------------------------------------------------------------------


def _driving(gpu: Gpu, pairs: _Pairs) -> _Pairs:
    return frozenset(pair for pair in pairs if gpu.serves(pair[0]) and pair[1] in gpu.generation.modules)


def _flavour(branch: int, pairs: _Pairs) -> Modules:
    flavours = {modules for number, modules in pairs if number == branch}
    default = facts().branches[branch].default
    return default if default in flavours else flavours.pop()


def _toolkit(wish: Wish, gpus: Sequence[Gpu], branch: int) -> str | None:
    """The CUDA toolkit: as asked for, or the newest that the branch came with and all GPUs are compiled for."""
    if wish.toolkit != "auto":
        return wish.toolkit
    newest = min((gpu.generation.last_cuda for gpu in gpus if gpu.generation.last_cuda is not None), default=None)
    fitting = (
        version
        for version, came_with in facts().toolkits.items()
        if came_with <= branch and (newest is None or cuda_version(version)[0] <= newest)
    )
    return max(fitting, key=cuda_version)


def _undecided(wish: Wish, gpus: Sequence[Gpu]) -> Choice:
    """Given files are of any branch: what GPUs need cannot be promised before it is said which."""
    if gpus:
        raise Refused(
            f"a driver from `source: {wish.source}` may be of any branch, and {gpus[0].label} needs a right one"
        )
    if wish.toolkit == "auto":
        raise Refused(f"a driver from `source: {wish.source}` may be of any branch, and no toolkit follows from that")
    modules: Modules = "proprietary" if wish.modules == "proprietary" else "open"
    said = "as asked for" if wish.modules == modules else "the default since branch 560; they drive Turing and newer"
    reasons = ("branch: that of the given files", f"{modules} modules: {said}")
    return Choice(branch=None, modules=modules, toolkit=wish.toolkit, reasons=reasons)

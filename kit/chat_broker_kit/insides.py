"""Look before you touch: does a library still have the insides that a class of ours builds upon?

Names are looked for in a class and in what its functions speak of, so no object has to be made for the look. What a name
means cannot be seen this way: an upper bound of the dependency keeps away versions that have not been tried.
"""

from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from types import FunctionType

Needs = Mapping[type, Iterable[str]]
"""Classes of a library, each with the names that are used of its objects."""


def misfit(needs: Needs, *ours: type) -> str:
    """Why *ours* cannot build upon the library that is installed; "" if they can."""
    for owner, names in needs.items():
        missing = sorted(set(names) - _names_of(owner))
        if missing:
            return f"{owner.__name__} has no {', '.join(missing)}"
    for one in ours:
        for name, function in vars(one).items():
            theirs = _overridden(one, name)
            if isinstance(function, FunctionType) and theirs and not _alike(function, theirs):
                return f"{theirs.__qualname__} has other parameters"
    return ""


def _names_of(owner: type) -> set[str]:
    names = set(dir(owner))
    for each in owner.__mro__:
        for function in vars(each).values():
            if isinstance(function, FunctionType):
                names.update(function.__code__.co_names)
    return names


def _overridden(ours: type, name: str) -> FunctionType | None:
    """The function of the nearest class above that *ours* replaces under this name."""
    if name == "__init__":
        return None
    found = (vars(above)[name] for above in ours.__mro__[1:] if name in vars(above))
    theirs = next(found, None)
    return theirs if isinstance(theirs, FunctionType) else None


def _alike(ours: FunctionType, theirs: FunctionType) -> bool:
    mine = signature(ours).parameters.values()
    if any(one.kind is Parameter.VAR_POSITIONAL for one in mine):
        return True
    return len(mine) == len(signature(theirs).parameters)

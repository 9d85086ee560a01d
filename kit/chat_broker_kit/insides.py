"""Checks whether the installed version of a library has the private names that a subclass of ours uses.

Names are looked up in the library's class and in the code of its functions, without creating an object. This does not
show a change of meaning: an upper bound of the dependency keeps untested versions away.
"""

from collections.abc import Iterable, Mapping
from inspect import Parameter, signature
from types import FunctionType

Needs = Mapping[type, Iterable[str]]
"""A library's classes, each with the names of its objects that are used."""


def misfit(needs: Needs, *ours: type) -> str:
    """Why the classes *ours* do not fit the installed library; "" if they fit."""
    for owner, names in needs.items():
        missing = sorted(set(names) - _names_of(owner))
        if missing:
            return f"{owner.__name__} has no {', '.join(missing)}"
    for subclass in ours:
        for name, function in vars(subclass).items():
            theirs = _overridden(subclass, name)
            if isinstance(function, FunctionType) and theirs and not _same_arity(function, theirs):
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
    """The library's function *name* that the class *ours* overrides; None if there is none."""
    if name == "__init__":
        return None
    functions = (vars(base)[name] for base in ours.__mro__[1:] if name in vars(base))
    theirs = next(functions, None)
    return theirs if isinstance(theirs, FunctionType) else None


def _same_arity(ours: FunctionType, theirs: FunctionType) -> bool:
    parameters = signature(ours).parameters.values()
    if any(each.kind is Parameter.VAR_POSITIONAL for each in parameters):
        return True
    return len(parameters) == len(signature(theirs).parameters)

"""A property that is worked out once for each object and kept with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")


class once(Generic[Value]):  # noqa: N801 - read as a decorator
    """What ``functools.cached_property`` is from Python 3.12 on; before, it takes a lock for every first value."""

    def __init__(self, work: Callable[[Any], Value]) -> None:
        self._work, self._name = work, work.__name__
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, owner: None, kind: type[Any]) -> Self: ...

    @overload
    def __get__(self, owner: object, kind: type[Any]) -> Value: ...

    def __get__(self, owner: object | None, kind: type[Any]) -> Self | Value:
        """Give the value, and leave it in the object's own namespace, where it is found first from then on."""
        if owner is None:
            return self
        found = owner.__dict__[self._name] = self._work(owner)
        return found

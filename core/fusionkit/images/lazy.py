"""Sequences whose items are made when they are asked for."""

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """`count` items, each made by a function of its index on every access, so that memory holds one."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        """Number of items."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """One item, or several as a list."""
        numbers = range(len(self))[index]
        return self.made(numbers) if isinstance(numbers, int) else [self.made(i) for i in numbers]

    def made(self, index: int) -> T:
        """Make one item."""
        return self._make(index)

"""How is a thing made of several parts taken down again, also when setting it up fails half-way?"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TypeVar

R = TypeVar("R", bound="Resource")


class Resource(ABC):
    """A `with` block that owns other resources: `set_up` enters them on `_stack`, and leaving the block closes them in reverse order."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    @abstractmethod
    def set_up(self) -> None:
        """Makes everything. What was entered on `_stack` before an exception is closed."""

    def __enter__(self: R) -> R:
        try:
            self.set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

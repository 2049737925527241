"""What all kinds of plug-ins share."""

from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import BaseModel

from ..options import Options, validate_options
from ..sources import STILL, Memory


class Lazy:
    """Loads something when it is first used, such as a network's weights."""

    def prepare(self) -> None:
        """Load it now: by default each lazy object among the attributes, and in the dicts among them."""
        for value in list(vars(self).values()):
            for part in value.values() if isinstance(value, dict) else (value,):
                if isinstance(part, Lazy):
                    part.prepare()


class Plugin(Lazy):
    """What all kinds share: an options model, and a constructor that keeps the validated options.

    provenance: what a manifest should record beside the options, such as the hash of loaded weights.
    """

    Options: ClassVar[type[BaseModel]] = Options
    provenance: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, options: BaseModel | None = None) -> None:
        """Keep the options; without any, the defaults. Base classes after this one (`nn.Module`) are begun, too."""
        super().__init__()
        self.options: Any = validate_options(self.Options, {}, type(self).__name__) if options is None else options


class Remembering(Plugin):
    """A plug-in that may keep values from frame to frame of a video's shot; of single images it keeps nothing."""

    memory: Memory = STILL

    def remembering(self, memory: Memory) -> Self:
        """A copy with a memory, for the frames of a shot."""
        one = copy(self)
        one.memory = memory
        return one

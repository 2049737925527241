"""What all kinds of plug-ins share, and checks of what they return."""

from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, ClassVar, Self

from pydantic import BaseModel
from torch import Tensor

from ..errors import PluginError
from ..numerics.choice import all_finite
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


def unfit(plugin: object, what: str, found: str) -> PluginError:
    """The error of a plug-in, or of its class, of which the function `what` gave something else than it promises."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    return PluginError(f"{cls.__module__}.{cls.__name__}.{what} returned {found}")


def check_answer(
    answer: object, shape: Sequence[int] | None, what: str, plugin: object, *, finite: bool = True
) -> None:
    """Refuse what no image can be made of, or no figure, instead of writing it. Raises PluginError.

    what: function of `plugin` that answered. finite: refuse NaN and infinity.
    """
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        found = f"a tensor of {answer.dtype}" if isinstance(answer, Tensor) else type(answer).__name__
        raise unfit(plugin, what, f"{found}, expected a tensor of float32")
    if shape is not None and answer.shape != tuple(shape):
        raise unfit(plugin, what, f"shape {tuple(answer.shape)}, expected {tuple(shape)}")
    if finite and not all_finite(answer):
        raise unfit(plugin, what, "NaN or infinite values; check its options")


def check_image(answer: object, batch: int, size: Sequence[int], what: str, plugin: object) -> None:
    """Refuse what is no image (B, 1 or 3, H, W) of this batch and (H, W). Raises PluginError; see `check_answer`."""
    channels = 3 if tuple(getattr(answer, "shape", ()))[1:2] == (3,) else 1
    check_answer(answer, (batch, channels, *size), what, plugin)

"""DDFM: EM with total variation at each of many steps from pure noise."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from .em_tv import EMTV

__all__ = ["DDFM"]


class DDFM(EMTV):
    """The prior `em_tv` in the setting of DDFM (Zhao et al., ICCV 2023): many steps, all of the noise, fresh each time.

    The sources reach the result through the corrections alone; the flow starts from noise. A baseline: one step of
    `em_tv` from the reference costs a hundredth and keeps more detail.
    """

    sampling: ClassVar[Mapping[str, Any]] = MappingProxyType({"steps": 100, "strength": 1.0, "eta": 1.0})

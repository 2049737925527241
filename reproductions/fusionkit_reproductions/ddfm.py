"""DDFM: EM with total variation at each of many steps from pure noise."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from .em_tv_paper import EMTVPaper, EMTVPaperOptions, Form


class DDFMOptions(EMTVPaperOptions):
    """Options of the prior `ddfm`: those of `em_tv_paper`, by default in the released form."""

    form: Form = Field("released", description="released: as DDFM's code computes it; corrected: as the algebra has it")


class DDFM(EMTVPaper):
    """`em_tv_paper` in the setting of DDFM (Zhao et al., ICCV 2023): many steps from pure noise, fresh noise each step.

    The sources reach the result through the corrections alone; the flow starts from noise. EM is in the form of the
    published code, F = I - X, because in the corrected one each step moves a pixel further towards the source it is
    nearer to: from a grey beginning a hundred of them end in the source that is nearer to grey. A baseline: it costs a
    hundred times what one step of `em_tv` from the reference does. A flow that knows only a part of the path, as the
    shipped one does, is started where its part ends.
    """

    Options = DDFMOptions
    sampling: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"steps": 100, "strength": 1.0, "eta": 1.0, "detail": "drop"}
    )

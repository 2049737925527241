"""Records of the built-in stages, with the fields of configurations that add them; the lowest place is outermost."""

from fusionkit.options import FilePath
from fusionkit.registry.records import StageFlag, StageRecord

__all__ = ["STAGES"]

STAGES = (
    StageRecord(
        name="resize",
        summary="resizes sources of another size to the reference",
        target="fusionkit_plugins.stages.sizes:Resize",
        place=10,
        flags=(
            StageFlag(
                name="resize",
                help="reference: resize sources of another size to the reference",
                values={"error": None, "reference": {}},
            ),
        ),
    ),
    StageRecord(
        name="align",
        summary="moves sources that are shifted, turned or scaled against the reference",
        target="fusionkit_plugins.stages.align:Align",
        place=20,
        flags=(
            StageFlag(
                name="align",
                help="sources that lie elsewhere than the reference: check: say so; none: do not look; translation, "
                "rigid, affine: find such a transform and move them by it",
                values={
                    "check": None,
                    "none": None,
                    "translation": {"model": "translation"},
                    "rigid": {"model": "rigid"},
                    "affine": {"model": "affine"},
                },
            ),
            StageFlag(
                name="transform",
                help="file of transforms, as `save_transform` writes, to move the sources by",
                option="transform",
                type=FilePath,
                default="",
            ),
        ),
    ),
    StageRecord(
        name="truncate",
        summary="cuts the result down to whole 8-bit levels",
        target="fusionkit_plugins.stages.levels:Truncate",
        place=30,
        flags=(
            StageFlag(
                name="levels",
                help="truncated: cut the result down to whole 8-bit levels instead of rounding when it is written",
                values={"all": None, "truncated": {}},
                command=False,
            ),
        ),
    ),
    StageRecord(
        name="stretch",
        summary="stretches the result's luma to the full range",
        target="fusionkit_plugins.stages.levels:Stretch",
        place=40,
        flags=(
            StageFlag(
                name="stretch",
                help="minmax: stretch the result's luma to the full range",
                values={"none": None, "minmax": {}},
                command=False,
            ),
        ),
    ),
    StageRecord(
        name="rounded_luma",
        summary="rounds the sources' luma to whole 8-bit levels, as OpenCV reads grey",
        target="fusionkit_plugins.stages.levels:RoundedLuma",
        place=50,
        flags=(
            StageFlag(
                name="luma",
                help="rounded: BT.601 luma of the sources in whole 8-bit levels, as OpenCV reads a grey image",
                values={"exact": None, "rounded": {}},
                command=False,
            ),
        ),
    ),
    StageRecord(
        name="working_size",
        summary="fuses at a stated size; the result has the sources'",
        target="fusionkit_plugins.stages.sizes:WorkingSize",
        place=60,
        flags=(
            StageFlag(
                name="working_size",
                help="height and width, as in 768x1024: resize the sources to them and the result back, bicubic",
                option="size",
                type=tuple[int, int] | str | None,
                command=False,
            ),
        ),
    ),
    StageRecord(
        name="vivid",
        summary="raises the contrast of a flat result, by 1.4 at most",
        target="fusionkit_plugins.stages.levels:Vivid",
        place=70,
        flags=(
            StageFlag(
                name="look",
                help="vivid: raise the contrast of a flat result, beyond the range of the sources; hot: raise that of "
                "hot objects in dim infrared sources first; auto: vivid for infrared pairs if the prior asks for it, "
                "otherwise faithful",
                values={"auto": {"scenes": "heat"}, "faithful": None, "vivid": {}, "hot": {"hot": 1.5}},
                asks="look",
            ),
        ),
    ),
)

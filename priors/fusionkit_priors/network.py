"""The prior `network`: any network that fuses images, from an ONNX file or a program of torch.export."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from fusionkit.contracts import Options, Prior, Sources, pad_to_multiple
from fusionkit.errors import InputError, OptionError, PluginError, WeightsError, one_line
from fusionkit.method.tiling import TILE, WHOLE_PIXELS, blend_tiles
from fusionkit.numerics.luma import luma
from fusionkit.options import WeightsName
from fusionkit.storage.manifest import sha256
from fusionkit.weights.files import open_weights, read_tensors
from fusionkit.weights.foreign import OnnxModel, card_of, read_card
from fusionkit.weights.store import find_weights

GRAPH = "graph"  # name of the only tensor of stored weights: the bytes of the file
CARD = 'inputs = ["other", "reference"], color = "luma", range = [0, 1]'

Role = Literal["other", "reference", "all"]
Color = Literal["luma", "rgb"]
Span = tuple[float, float]


class Card(Options):
    """How a network is used: the TOML beside its file."""

    inputs: Annotated[tuple[Role, ...], Field(min_length=1)] = Field(
        ("other", "reference"),
        description="which source each input takes, in the network's order: the reference, the next of the others "
        "(infrared where the reference is visible), or all sources as channels of one input",
    )
    color: Color | tuple[Color, ...] = Field("luma", description="what the inputs take, once or one for each")
    stacked: bool = Field(False, description="the inputs are channels of one input")
    range: Span = Field((0.0, 1.0), description="black and white of the inputs")
    output: Color = Field("luma", description="what the network gives; of colours the luma is used")
    output_range: Span | None = Field(None, description="black and white of the output; by default the inputs'")
    multiple: int = Field(1, ge=1, le=1024, description="height and width are padded to a multiple of it")
    size: tuple[int, int] | None = Field(None, description="the only height and width that the network takes")
    overlap: int = Field(64, ge=0, le=4096, description="pixels that tiles of large images share")
    credit: str = Field("", description="whose network it is, for manifests")

    @model_validator(mode="after")
    def _fits(self) -> "Card":
        if self.stacked and len(self.inputs) == 1:
            raise ValueError("stacked has no effect: there is one input already")
        if self.size is not None and "multiple" in self.model_fields_set:
            raise ValueError("multiple has no effect beside size")
        if self.inputs != ("all",) and ("all" in self.inputs or self.inputs.count("reference") != 1):
            raise ValueError('inputs: expected "reference" once and "other" for each other source, or "all" alone')
        if not isinstance(self.color, str) and len(self.color) != len(self.inputs):
            raise ValueError("color: expected one, or one for each input")
        for low, high in (self.range, self.output_range or self.range):
            if not high > low:
                raise ValueError("range: white must be above black")
        if self.size is not None and not (min(self.size) > self.overlap and max(self.size) <= 16384):
            raise ValueError("size: expected sides above the overlap, and at most 16384")
        return self

    @property
    def count(self) -> int:
        """Number of the network's inputs."""
        return 1 if self.stacked or self.inputs == ("all",) else len(self.inputs)

    @property
    def colors(self) -> tuple[Color, ...]:
        """What each input takes."""
        return (self.color,) * len(self.inputs) if isinstance(self.color, str) else self.color


class NetworkPriorOptions(Options):
    """Options of the prior `network`."""

    file: WeightsName = Field(
        "", description="an .onnx or .pt2 file with a .toml beside it, or a name that `weights import` gave"
    )
    trusted: bool = Field(
        False, description="the .pt2 file is from a trusted hand: reading one can run code that it holds"
    )


class NetworkPrior(Prior):
    """F = the luma of what the network gives for the sources, clamped to [0, 1]; x0 is not read.

    Each image goes through the network by itself, padded to `multiple`; above 1.5 megapixels, or where the network
    takes one size only, on tiles that share `overlap` and are blended. Raises WeightsError, OptionError for a file that
    is not there or not described, PluginError where the network fails or gives another shape than its card says.
    """

    Options = NetworkPriorOptions
    reads_x0 = False
    options: NetworkPriorOptions

    def __init__(self, options: NetworkPriorOptions) -> None:
        super().__init__(options)
        if not options.file:
            raise OptionError("prior network needs `file`, an .onnx or .pt2 file, or a name that `weights import` gave")
        self._place, self.card, digest = _found(options)
        if options.trusted and self._place.suffix != ".pt2":
            raise OptionError("`trusted` has no effect: nothing but a .pt2 file can run code when it is read")
        self.max_sources = None if self.card.inputs == ("all",) else len(self.card.inputs)
        credit = {"credit": self.card.credit} if self.card.credit else {}
        self.provenance = {"weights": self._place.name, "sha256": digest, **credit}
        self._network: _Exported | OnnxModel = _Exported(self._place)
        if self._place.suffix != ".pt2":
            self._network = OnnxModel(partial(_bytes, self._place), str(self._place))

    def prepare(self) -> None:
        """Load the network now."""
        self._network.prepare(self.card.count)

    def correct(self, x0: Tensor, sources: Sources, state: Any, sigma: float) -> tuple[Tensor, None]:
        """The network's luma (B, 1, H, W)."""
        if self.max_sources is not None and len(sources) != self.max_sources:
            raise InputError(f"{self._place.name} takes {self.max_sources} sources, there are {len(sources)}")
        parts = list(self._inputs(sources))
        widths = [part.shape[1] for part in parts]
        together, (low, high) = torch.cat(parts, dim=1), self.card.range
        low_out, high_out = self.card.output_range or self.card.range
        run = partial(self._run, widths=widths)
        fused = torch.cat([self._tiled(low + (high - low) * image, run) for image in torch.split(together, 1)])
        return ((fused - low_out) / (high_out - low_out)).clamp_(0, 1), None

    def _inputs(self, sources: Sources) -> Iterator[Tensor]:
        """What each input takes, (B, C, H, W) in [0, 1]."""
        others = iter(i for i in range(len(sources)) if i != sources.reference % len(sources))
        for role, color in zip(self.card.inputs, self.card.colors, strict=True):
            places = (
                range(len(sources)) if role == "all" else [sources.reference if role == "reference" else next(others)]
            )
            for i in places:
                image = sources.images[i]
                yield image.expand(-1, 3, -1, -1) if color == "rgb" else sources.luma[i]

    def _tiled(self, image: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply the network to an image (1, C, H, W), whole or on tiles: (1, 1, H, W)."""
        height, width = image.shape[-2:]
        if self.card.size is not None:
            tall, wide = (max(0, side - own) for side, own in zip(self.card.size, (height, width), strict=True))
            padded = F.pad(image, (0, wide, 0, tall), mode="replicate")
            return blend_tiles(padded, run, self.card.size, self.card.overlap)[..., :height, :width]
        if height * width <= WHOLE_PIXELS:
            return run(image)
        side = max(TILE, 2 * self.card.overlap)
        return blend_tiles(image, run, side, self.card.overlap)

    def _run(self, image: Tensor, widths: Sequence[int]) -> Tensor:
        """One call of the network: (1, C, h, w) -> luma (1, 1, h, w) in the output's range."""
        size = image.shape[-2:]
        padded = pad_to_multiple(image, self.card.multiple)
        given = [padded] if self.card.count == 1 else list(torch.split(padded, list(widths), dim=1))
        self.prepare()
        host = isinstance(self._network, OnnxModel)
        try:
            answers = self._network(*(part.contiguous().cpu() if host else part.contiguous() for part in given))
            answer = torch.as_tensor(answers[0]).to(image.device) if isinstance(answers, list | tuple) else answers
        except Exception as error:  # of onnxruntime and of the network, which can raise anything
            reason = one_line(error)[:200]
            shapes = ", ".join("x".join(map(str, part.shape)) for part in given)
            raise PluginError(
                f"{self._place.name} fails on {shapes}: {reason}; its card can state size, multiple, color"
            ) from None
        channels = 3 if self.card.output == "rgb" else 1
        if not isinstance(answer, Tensor) or answer.shape != (1, channels, *padded.shape[-2:]):
            found = tuple(getattr(answer, "shape", ()))
            raise PluginError(
                f"{self._place.name} gives shape {found}, its card says (1, {channels}, {padded.shape[-2]}, "
                f"{padded.shape[-1]}); its card can state output, multiple, size"
            )
        return luma(answer.float())[..., : size[0], : size[1]]


def _found(options: NetworkPriorOptions) -> tuple[Path, Card, str]:
    """The file of a network, its card and its SHA-256. Raises WeightsError, OptionError."""
    place = Path(options.file)
    suffix = place.suffix.lower()
    if suffix not in (".onnx", ".pt2"):
        stored = find_weights(options.file, __name__.partition(".")[0], "another prior serves")
        if stored.section("kind") != "prior network":
            raise WeightsError(
                f"weights {options.file} are of kind {stored.section('kind')!r}, expected 'prior network'"
            )
        return stored.path, card_of(stored.section("card"), Card, stored.json), str(stored.info.get("sha256"))
    if suffix == ".pt2" and not options.trusted:
        raise OptionError(
            f"{place}: reading a .pt2 file can run code that it holds; export the network to ONNX, or say "
            "`trusted=true` of a file that you made"
        )
    return place, read_card(place, Card, CARD), sha256(place)


class _Exported:
    """A program of torch.export."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def prepare(self, count: int) -> None:
        """Load it now; it tells the number of its inputs when it is called."""
        _ = self.program

    @cached_property
    def program(self) -> Any:
        """The program, read at the first use."""
        logging.getLogger("torch.export").setLevel(logging.CRITICAL)  # our error describes a damaged file
        try:
            return torch.export.load(self.place).module()
        except Exception as error:  # a damaged file can raise anything
            reason = one_line(error)[:200]
            raise WeightsError(f"{self.place}: no program of torch.export that can be read: {reason}") from None

    def __call__(self, *given: Tensor) -> Any:
        return self.program.to(given[0].device)(*given)

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place}


def _bytes(place: Path) -> bytes:
    if place.suffix.lower() == ".onnx":
        return place.read_bytes()
    return read_tensors(open_weights(place))[GRAPH].numpy().tobytes()

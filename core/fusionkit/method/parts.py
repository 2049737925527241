"""Build the plug-ins of a method from its choices."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from .. import contracts
from ..contracts.base import check_answer, unfit
from ..errors import OptionError, PluginError, UnknownPlugin
from ..extras import DISTRIBUTION
from ..options import validate_options
from ..registry.kinds import KINDS, METHOD
from ..registry.loading import check_whole, create, get_registry
from .choice import Choice
from .config import PipelineConfig, SamplerOptions


@dataclass(frozen=True)
class Part:
    """A plug-in of a method: its kind, name, origin and object."""

    kind: str
    name: str
    origin: str
    plugin: Any
    distribution: str = ""

    @property
    def full_name(self) -> str:
        """DISTRIBUTION:NAME; of an object, its name alone."""
        return f"{self.distribution}:{self.name}" if self.distribution else self.name

    @property
    def title(self) -> str:
        """Kind, name and origin, as error messages name the plug-in."""
        return f"{self.kind} {self.name!r} of {self.origin}"

    def record(self) -> dict[str, Any]:
        """Row of the manifest: name, origin, all options, and the plug-in's `provenance`."""
        options = getattr(self.plugin, "options", None)
        dumped = options.model_dump(mode="json") if isinstance(options, BaseModel) else {}
        own = {} if self.distribution or not isinstance(self.plugin, nn.Module) else {"sha256": _weights(self.plugin)}
        return {"name": self.name, "from": self.origin, "options": dumped, **own, **self.plugin.provenance}


def _weights(module: nn.Module) -> str:
    """Hash of the weights of an object, which come from no file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build(kind: str, choice: Choice, device: torch.device, prefer: Sequence[str] = ()) -> Part:
    """Build a chosen plug-in on a device; modules are frozen and put into evaluation mode, given objects too.

    prefer: distributions that win if several offer an unqualified name that the user did not type.
    """
    if choice.instance is not None:
        plugin, name = choice.instance, choice.name
        origin, distribution = f"{type(plugin).__module__}, an object", ""
        contract = getattr(contracts, KINDS[kind].contract)
        if isinstance(plugin, type) and issubclass(plugin, contract):
            call = plugin.__name__
            raise PluginError(f"{kind} {call}: this is the class; give an object of it, {call}({call}.Options())")
        if not isinstance(plugin, contract):
            raise PluginError(
                f"{kind} {name}: expected a name or an object of a class derived from "
                f"fusionkit.contracts.{KINDS[kind].contract}, got {plugin!r:.100}"
            )
        check_whole(plugin, KINDS[kind], f"{kind} {name}")
    else:
        registered = get_registry().find(kind, choice.name, prefer)
        plugin = create(registered, choice.options)
        name, origin, distribution = registered.record.name, registered.origin, registered.distribution
    if isinstance(plugin, nn.Module):
        plugin = plugin.to(device).requires_grad_(False).eval()
    return Part(kind, name, origin, plugin, distribution)


def parts_of(config: PipelineConfig, device: torch.device) -> dict[str, Part]:
    """The plug-ins that a method has one of, by the fields of its configuration, on a device.

    Where no decoder is named, it is the one that the backbone was trained with. Raises OptionError where the two do not
    fit.
    """
    parts = {key: build(METHOD[key].name, getattr(config, key), device) for key in METHOD if key != "decoder"}
    backbone, chosen = parts["backbone"], config.decoder
    if chosen is not None and chosen.name:
        decoder = build("decoder", chosen, device)
    else:
        options = {**backbone.plugin.decoder_options, **(chosen.options if chosen else {})}
        choice = Choice(name=backbone.plugin.decoder, options=options)
        try:
            decoder = build("decoder", choice, device, prefer=(backbone.distribution, DISTRIBUTION))
        except UnknownPlugin as error:
            raise UnknownPlugin(f"{backbone.title}: {error}") from None
    _check_domains(backbone, decoder)
    prior = parts["prior"]
    validate_options(SamplerOptions, prior.plugin.sampling, f"{prior.title}: sampling")
    _check_color(parts["color"].plugin, device)
    return {**parts, "decoder": decoder}


def _check_color(space: contracts.ColorSpace, device: torch.device) -> None:
    """Refuse a colour space that takes no image apart."""
    for channels in (1, 3):
        image = torch.full((1, channels, 2, 3), 0.5, device=device)
        found: object = space.split(image)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise unfit(space, "split", f"{type(found).__name__}, expected luma and chroma")
        luma, chroma = found
        check_answer(luma, (1, 1, 2, 3), "split", space)
        if not 0 <= luma.amin() <= luma.amax() <= 1:
            raise unfit(space, "split", f"a luma up to {luma.amax():g}, expected values in [0, 1]")
        if chroma is not None:
            check_answer(chroma, (1, 2, 2, 3), "split", space)


def _check_domains(backbone: Part, decoder: Part) -> None:
    b, d, names = backbone.plugin, decoder.plugin, (backbone.name, decoder.name)
    if b.domain == "latent" and d.channels is None:
        raise OptionError("backbone {} works on latents, decoder {} gives none; use {}".format(*names, b.decoder))
    if b.domain == "pixel" and d.channels is not None:
        raise OptionError("backbone {} works on pixels, decoder {} gives latents; use identity".format(*names))
    if None not in (b.channels, d.channels) and b.channels != d.channels:
        own = f"backbone {backbone.name} expects latents of {b.channels} channels"
        raise OptionError(f"{own}, decoder {decoder.name} gives {d.channels}")

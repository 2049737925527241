"""The contract of every kind of plug-in, and the images that all contracts test with."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ..contracts import Sources
from ..errors import OptionError
from ..registry.loading import get_registry

SIZES = [(32, 48), (31, 37), (1, 20), (20, 1), (2, 3), (1, 1)]

# listing plug-ins happens at every `fusionkit --help`
LIST_ONLY = """
import sys
from fusionkit.registry.loading import load_registry
load_registry(restriction="imagefusionkit," + {distribution!r}).find({kind!r}, {name!r})
assert "torch" not in sys.modules, "importing " + {distribution!r} + " to list it imports torch"
"""


def random_images(*shape: int, count: int = 1, seed: int = 0) -> list[Tensor]:
    """Draw `count` images of uniform noise in [0, 1]: (B, C, H, W) each."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(*shape, generator=generator) for _ in range(count)]


def make_sources(*images: Tensor) -> Sources:
    """Make sources of images (B, 3 or 1, H, W); the last one is the reference."""
    return Sources.of(images, lambda image: image.mean(1, keepdim=True))


def unchanged(*tensors: Tensor) -> Callable[[], None]:
    """Remember tensors; the function returned asserts that they still hold the same values."""
    copies = [tensor.clone() for tensor in tensors]

    def check() -> None:
        same = all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, copies, strict=True))
        assert same, "an input was changed in place"

    return check


def assert_alone(together: Tensor, alone: Callable[[slice], Tensor], atol: float, rtol: float = 0) -> None:
    """Assert that row b of a result equals the result of row b alone; nan equals nan."""
    for i in range(len(together)):
        one = slice(i, i + 1)
        torch.testing.assert_close(together[one], alone(one), atol=atol, rtol=rtol, equal_nan=True)


class PluginContract:
    """Contract of every plug-in: it is found, listed cheaply, and its options are strict and explained."""

    kind: ClassVar[str]
    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    tolerance: ClassVar[float] = 2e-4  # largest difference between results of an image in different batches

    def make(self) -> Any:
        """Make the plug-in as a pipeline does; a module is frozen, in evaluation mode."""
        plugin = get_registry().create(self.kind, self.name, dict(self.options))
        return plugin.eval().requires_grad_(False) if isinstance(plugin, torch.nn.Module) else plugin

    def test_it_is_found_under_its_name(self) -> None:
        """One distribution offers it, with a summary of one line."""
        record = get_registry().find(self.kind, self.name).record
        assert record.summary.strip()
        assert "\n" not in record.summary

    def test_listing_it_imports_no_torch(self) -> None:
        """The module that the entry point names imports nothing heavy."""
        distribution = get_registry().find(self.kind, self.name).distribution
        code = LIST_ONLY.format(kind=self.kind, name=self.name, distribution=distribution)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_a_misspelt_option_is_refused(self) -> None:
        with pytest.raises(OptionError, match="no_such_option"):
            get_registry().create(self.kind, self.name, {**self.options, "no_such_option": 1})

    def test_every_option_has_a_default_and_a_description(self) -> None:
        """`fusionkit plugins show` is the reference that users have."""
        fields = get_registry().load(self.kind, self.name).Options.model_fields
        if not fields:
            pytest.skip("it has no options")
        for key, field in fields.items():
            assert not field.is_required(), f"option {key} has no default"
            assert field.description, f"option {key} is not described"

    def test_options_can_be_recorded(self) -> None:
        assert isinstance(self.make().options.model_dump(mode="json"), dict)

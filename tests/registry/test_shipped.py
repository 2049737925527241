"""Folders of data in the packages that register plug-ins."""

import shutil

import pytest

from fusionkit.errors import OptionError
from fusionkit.method.presets import load_preset, preset_names
from fusionkit.registry.loading import get_registry
from fusionkit.registry.shipped import package_folders, shipped_folders

CODE = """
import fusionkit

@fusionkit.hookimpl
def fusionkit_priors():
    yield fusionkit.PriorRecord(name="{0}", summary="shipped with presets", target="{0}:Prior")
"""


@pytest.fixture
def add(site, monkeypatch):
    """A function: add("fk-shop", night=TOML) installs a package that ships presets."""
    monkeypatch.delenv("FUSIONKIT_PLUGINS", raising=False)
    get_registry.cache_clear()

    def install(dist: str, **presets: str) -> None:
        package = dist.replace("-", "_")
        site.add(dist, CODE.format(package))
        folder = site.site / package
        (folder / "presets").mkdir(parents=True)
        shutil.move(site.site / f"{package}.py", folder / "__init__.py")
        for name, text in presets.items():
            (folder / "presets" / f"{name}.toml").write_text(text)

    yield install
    get_registry.cache_clear()


def test_a_third_party_ships_presets(add):
    add("fk-shop", night='prior = "fk_shop"\nseed = 3\n')
    assert {"night", "rffusion-released"} <= set(preset_names())
    assert load_preset("night") == {"prior": "fk_shop", "seed": 3}
    assert load_preset("rffusion-released")["prior"] == "imagefusionkit:em_tv_paper"
    assert [owner for folder, owner in shipped_folders("presets").items() if "fk_shop" in folder.parts] == ["fk-shop"]


def test_one_name_in_two_packages_names_both(add):
    add("fk-shop", night="seed = 3\n")
    add("fk-mall", night="seed = 4\n")
    with pytest.raises(
        OptionError, match=r"preset 'night' is shipped by (?=.*fk-shop \()(?=.*fk-mall \().*give the path"
    ):
        load_preset("night")


def test_a_single_module_ships_nothing():
    assert package_folders("harness", "presets") == package_folders("no_such_package", "presets") == []

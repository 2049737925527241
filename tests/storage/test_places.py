"""Addresses of buckets, which a Path shortens."""

from pathlib import Path

import pytest

from fusionkit.storage.places import full_address


@pytest.mark.parametrize("address", ["s3://bucket/out", "gs://bucket/a/b", "out", "/tmp/out"])
def test_an_address_is_told_in_full(address):
    assert full_address(str(Path(address))) == address

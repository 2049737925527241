"""Writer of TIFF and GeoTIFF."""

from collections.abc import Sequence
from pathlib import Path

from fusionkit.contracts import Stored, Writer
from fusionkit.images.metadata import SOFTWARE, add_ifds, resolution_of, tiff_tags

from ..readings import append_page
from .png import with_alpha


class TiffWriter(Writer):
    """8 and 16 bits and float, deflated, with alpha, profile, EXIF, GPS and XMP.

    Of a GeoTIFF, the place, the coordinate system and the value of no data (GDAL_NODATA), as it is written. Readings
    are further pages in the same place.
    """

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file."""
        import tifffile
        from PIL import Image

        block = Image.Exif()
        block.load(stored.metadata.exif)
        values = with_alpha(stored)
        tifffile.imwrite(
            path,
            values,
            compression="zlib",
            iccprofile=stored.icc,
            metadata=None,
            photometric="rgb" if stored.values.shape[2] == 3 else "minisblack",
            extrasamples=None if stored.alpha is None else ["unassalpha"],
            planarconfig="contig" if values.ndim == 3 else None,
            software=block.get(SOFTWARE, False),
            extratags=tiff_tags(stored.metadata, block),
            **resolution_of(block),
        )
        if stored.metadata.exif:
            add_ifds(path, block)
        for name, values in stored.readings:
            append_page(path, name, values, stored.metadata.geo)
        return ()

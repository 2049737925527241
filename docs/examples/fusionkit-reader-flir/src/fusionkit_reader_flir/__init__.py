"""The reader `flir`. Importing this module must stay cheap: the class is imported when it is chosen."""

import fusionkit


@fusionkit.hookimpl
def fusionkit_readers():
    """What this package offers."""
    yield fusionkit.ReaderRecord(
        name="flir",
        summary="radiometric FLIR JPEG: temperatures in degrees Celsius, and the visible image inside",
        target="fusionkit_reader_flir.implementation:FlirReader",
        modules=("flyr",),
        extensions=(".jpg", ".jpeg"),
        mark=b"FLIR\x00\x01",  # how its segments start; without the last byte, the EXIF maker "FLIR" would do, too
        several=True,
    )

"""Registers the built-in plug-ins beside priors and backbones, exactly as a third party's package would."""

from collections.abc import Iterator
from typing import Any

from fusionkit import (
    ColorSpaceRecord,
    DecoderRecord,
    DegradationRecord,
    DetectorRecord,
    MetricRecord,
    ReaderRecord,
    StageRecord,
    WriterRecord,
    hookimpl,
)

from .stages.records import STAGES

# metrics: name and summary; a class has its metric's name
STANDARD = {
    "EN": "entropy of the 256-level histogram, bits",
    "SD": "standard deviation, grey levels",
    "SF": "spatial frequency: root mean square of row and column differences, grey levels",
    "AG": "average gradient, grey levels",
    "MI": "sum over sources of the mutual information with the result, bits",
    "NMI": "mutual information divided by the mean of the entropies",
    "CC": "mean correlation with the sources",
    "SCD": "sum of the correlations of differences",
    "VIF": "visual information fidelity, mean over sources",
    "Qabf": "share of the sources' edges that is kept",
    "SSIM": "structural similarity, mean over sources",
    "PSNR": "peak signal-to-noise ratio against both sources, dB",
    "MSE": "mean squared difference to the sources, squared grey levels",
}
STRUCTURE = {
    "Nabf": "edges that no source has: artefacts",
    "MS_SSIM": "structural similarity over five scales, mean over sources",
    "FMI": "feature mutual information of 3x3 windows; slow",
    "Qcb": "contrast preserved for human vision (Chen and Blum)",
    "Qcv": "visible difference to the sources (Chen and Varshney)",
    "Qw": "weighted quality index (Piella and Heijmans)",
    "Qy": "similarity to the more alike source (Yang)",
}
# the audit: name, target, summary
AUDIT = (
    ("kept_others", "audit:KeptOthers", "edges that only a source beside the reference has: share that is kept"),
    ("kept_reference", "audit:KeptReference", "edges that only the reference has: share that is kept"),
    ("hot", "audit:Hot", "contrast of hot objects, relative to the infrared's"),
    ("polarity", "audit:Polarity", "share of the hot objects that are brighter than their surround"),
    ("outside", "audit:Outside", "percent of pixels outside the range of all sources"),
    ("halo", "audit:Halo", "percent of pixels beyond everything near them in any source"),
    ("noise", "audit:NoiseGain", "grain in flat areas, relative to the noisiest source"),
    ("drift", "audit:Drift", "change of brightness against the reference away from hot objects, levels"),
    ("crushed", "audit:Crushed", "percent of pixels gone black or white where no source is"),
    ("hue", "colour:Hue", "turn of the colours against the reference, degrees"),
    ("chroma", "colour:Chroma", "colourfulness relative to the reference; 1 is the same"),
    ("rescued", "audit:Rescued", "texture kept where another source is clipped (exposures)"),
    ("rims", "audit:Rims", "percent of pixels whose brightness runs against every source's (exposures)"),
    ("sharper", "audit:Sharper", "PSNR to the source that is clearly sharper (focus), dB"),
    ("solid", "audit:Solid", "texture in what its own source shows white and flat (scans), levels"),
)
LOWER = {"MSE", "Nabf", "Qcv"}  # is better
LOWER |= {f"audit.{name}" for name in ("outside", "halo", "noise", "drift", "crushed", "hue", "rims", "solid")}
SHORT = {"VIF", "Qabf", "SSIM", "MI", "EN"}

# degradations: name, target, place, automatic, evaluations, summary
DEGRADATIONS = (
    ("blur", "blur:Blur", 10, False, 5, "blur of a lens or of movement: Gaussian, motion, out of focus, a kernel's"),
    ("haze", "weather:Haze", 25, False, 1, "a veil of light, by the dark channel: fog, smoke, glare, distance"),
    ("rain", "weather:Rain", 35, True, 5, "streaks of rain, with a spectrum of their own, by splitting"),
    ("darkness", "learned:Darkness", 20, False, 1, "too little light, by a network, with the noise that then appears"),
    ("low_resolution", "low_resolution:LowResolution", 30, True, 5, "fewer pixels than `resize` stretches a source to"),
    ("noise", "noise:Noise", 40, True, 1, "white noise, noise that grows with light, noise along rows"),
    ("stripes", "stripes:Stripes", 50, True, 6, "columns and rows, constant or drifting; a camera's fixed pattern"),
    ("jpeg", "jpeg:Jpeg", 60, True, 4, "blocks and ringing of JPEG files, up to quality 60 if not asked"),
)
TRAINERS = {"darkness": "DarknessTrainer"}  # of the learned ones

# colour spaces: name, target, summary
COLOR_SPACES = (
    ("ycbcr", "ycbcr:YCbCr", "BT.601 YCbCr, full range; colour from the sources, luma fused"),
    ("lab", "lab:Lab", "CIELAB of sRGB (D65): fuses perceived lightness"),
    ("gray", "gray:Gray", "BT.601 luma only: a grey result"),
)


def _reader(name: str, summary: str, extensions: str, module: str = "", **more: Any) -> ReaderRecord:
    """A reader. extensions: separated by spaces. module: what it needs, brought by the extra of the reader's name."""
    needs: dict[str, Any] = {"modules": (module,), "extra": name} if module else {}
    target = f"fusionkit_plugins.readers.{name}:{name.title()}Reader"
    return ReaderRecord(
        name=name, summary=summary, target=target, extensions=tuple(extensions.split()), **{**needs, **more}
    )


def _at(offset: int, *texts: bytes) -> tuple[tuple[int, bytes], ...]:
    return tuple((offset, text) for text in texts)


SPACES = (b"\n", b" ", b"\r", b"\t")
TIFF = _at(0, b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_2000 = _at(0, b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
PLAIN_NETPBM = _at(0, *(kind + space for kind in (b"P1", b"P2", b"P3", b"P4") for space in SPACES))
NETPBM = _at(0, *(kind + space for kind in (b"P5", b"P6", b"PF", b"Pf") for space in SPACES))
PILLOW_MAGIC = (
    *_at(0, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"),
    *_at(8, b"WEBP"),
    *_at(4, b"ftypavif", b"ftypavis"),
    *JPEG_2000,
    *PLAIN_NETPBM,
)
HEIF = _at(4, *(b"ftyp" + kind for kind in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")))
JPEG_XL = _at(0, b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
# with a preamble; without one, the first element is of the file's header or says which class of object it is
DICOM = (
    (128, b"DICM"),
    *((0, bytes((g, 0, e, 0))) for g, e in ((2, 0), (2, 1), *((8, e) for e in (0, 5, 8, 0x12, 0x16, 0x18)))),
)
RAW = ".dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .pef .srw"
PILLOW = ".png .apng .jpg .jpeg .jfif .jpe .mpo .webp .avif .bmp .gif .jp2 .j2k .j2c .jpf .jpx .pbm .pgm .ppm .pnm"
READERS = (
    _reader(
        "pillow",
        "PNG, JPEG, WebP, AVIF, BMP, GIF, JPEG 2000, Netpbm, with several pictures",
        PILLOW,
        magic=PILLOW_MAGIC,
        several=True,
        fallback=True,
    ),
    _reader(
        "tiff",
        "TIFF of 1 to 16 bits and float, GeoTIFF, OME-TIFF, stacks of ImageJ",
        ".tif .tiff .ome.tif .ome.tiff .btf",
        magic=TIFF,
        several=True,
    ),
    _reader("netpbm", "binary Netpbm of up to 16 bits, and PFM", ".pfm .pgm .ppm .pnm", magic=NETPBM),
    _reader(
        "codecs",
        "JPEG XL and Radiance HDR, decoded by imagecodecs",
        ".jxl .hdr .rgbe",
        "imagecodecs",
        magic=(*JPEG_XL, *_at(0, b"#?RADIANCE", b"#?RGBE")),
    ),
    _reader(
        "heif",
        "HEIC and HEIF, decoded by libheif",
        ".heic .heif .hif",
        "pillow_heif",
        extra="",
        magic=HEIF,
        several=True,
    ),
    _reader("raw", "raw files of cameras, developed by LibRaw to 16 bits", RAW, "rawpy"),
    _reader("exr", "OpenEXR: grey, RGB, luminance with chroma", ".exr", "OpenEXR", magic=((0, b"v/1\x01"),)),
    _reader(
        "dicom", "DICOM: single images, frames, series of slices", ".dcm .ima", "pydicom", magic=DICOM, several=True
    ),
    _reader("nifti", "NIfTI, one or several volumes, slice by slice", ".nii .nii.gz", "nibabel", several=True),
)


def _writer(name: str, target: str, summary: str, extensions: str, module: str = "", **more: Any) -> WriterRecord:
    """A writer. extensions: separated by spaces. module: what it needs, brought by the extra of the writer's name."""
    needs: dict[str, Any] = {"modules": (module,), "extra": name} if module else {}
    target = f"fusionkit_plugins.writers.{target}"
    return WriterRecord(
        name=name, summary=summary, target=target, extensions=tuple(extensions.split()), **{**needs, **more}
    )


DESCRIBED = ("exif", "icc")  # kept by all formats of photographs
WRITERS = (
    _writer(
        "png",
        "png:PngWriter",
        "PNG",
        ".png",
        depths=("8", "16"),
        alpha=True,
        keeps=(*DESCRIBED, "png", "readings"),
        rank=1,
    ),
    _writer(
        "tiff",
        "tiff:TiffWriter",
        "TIFF, GeoTIFF",
        ".tif .tiff",
        depths=("8", "16", "float"),
        alpha=True,
        keeps=(*DESCRIBED, "geo", "nodata", "readings"),
        rank=2,
    ),
    _writer("jpeg", "pillow:JpegWriter", "JPEG", ".jpg .jpeg", keeps=DESCRIBED, rank=3),
    _writer("webp", "pillow:WebpWriter", "WebP", ".webp", alpha=True, keeps=DESCRIBED, rank=4),
    _writer("bmp", "pillow:BmpWriter", "BMP", ".bmp", rank=5),
    _writer(
        "exr",
        "exr:ExrWriter",
        "OpenEXR: floats, with the windows",
        ".exr",
        "OpenEXR",
        depths=("float",),
        alpha=True,
        rank=6,
    ),
    _writer(
        "hdr",
        "hdr:HdrWriter",
        "Radiance HDR: positive floats, to a hundredth",
        ".hdr",
        "imagecodecs",
        extra="codecs",
        depths=("float",),
        rank=9,
    ),
    _writer(
        "dicom",
        "dicom:DicomWriter",
        "DICOM: secondary captures in the reference's place",
        ".dcm",
        "pydicom",
        depths=("16", "8", "float"),
        keeps=("icc", "nodata"),
        rank=7,
    ),
    _writer(
        "nifti",
        "nifti:NiftiWriter",
        "NIfTI: slices and whole volumes in the reference's place",
        ".nii.gz .nii",
        "nibabel",
        volumes=True,
        depths=("8", "16", "float"),
        rank=8,
    ),
)


@hookimpl
def fusionkit_color_spaces() -> Iterator[ColorSpaceRecord]:
    """The built-in colour spaces."""
    for name, target, summary in COLOR_SPACES:
        yield ColorSpaceRecord(name=name, summary=summary, target=f"fusionkit_plugins.color.{target}")


@hookimpl
def fusionkit_decoders() -> Iterator[DecoderRecord]:
    """The built-in decoder."""
    yield DecoderRecord(
        name="identity",
        summary="no autoencoder: the flow works on pixels",
        target="fusionkit_plugins.identity:IdentityDecoder",
    )


@hookimpl
def fusionkit_degradations() -> Iterator[DegradationRecord]:
    """The built-in degradations."""
    for name, target, place, automatic, evaluations, summary in DEGRADATIONS:
        trainer = TRAINERS.get(name)
        yield DegradationRecord(
            name=name,
            summary=summary,
            target=f"fusionkit_plugins.degradations.{target}",
            trainer=trainer and f"fusionkit_plugins.degradations.learned_training:{trainer}",
            learned=bool(trainer),
            place=place,
            automatic=automatic,
            evaluations=evaluations,
        )


@hookimpl
def fusionkit_stages() -> Iterator[StageRecord]:
    """The built-in stages."""
    yield from STAGES


@hookimpl
def fusionkit_metrics() -> Iterator[MetricRecord]:
    """The built-in metrics."""
    for rank, (name, summary) in enumerate(STANDARD.items(), 1):
        yield _metric(name, summary, f"standard:{name}", rank=rank, short=name in SHORT)
    for name, summary in STRUCTURE.items():
        yield _metric(name, summary, f"structure:{name}")
    for name, target, summary in AUDIT:
        yield _metric(f"audit.{name}", summary, target, dialect="audit")
    yield MetricRecord(
        name="PIQE",
        summary="the result as a photograph, no reference; off-domain on thermal",
        target="fusionkit_plugins.metrics.noreference:PIQE",
        higher_is_better=False,
        modules=("pypiqe",),
        extra="iqa",
    )


def _metric(name: str, summary: str, target: str, **more: Any) -> MetricRecord:
    target = f"fusionkit_plugins.metrics.{target}"
    return MetricRecord(name=name, summary=summary, target=target, higher_is_better=name not in LOWER, **more)


@hookimpl
def fusionkit_detectors() -> Iterator[DetectorRecord]:
    """The built-in detectors."""
    yield DetectorRecord(
        name="hog_people",
        summary="people by histograms of oriented gradients (OpenCV)",
        target="fusionkit_plugins.detectors.hog:HOGPeople",
        modules=("cv2",),
        extra="detect",
    )
    yield DetectorRecord(
        name="onnx",
        summary="any detector in an ONNX file, its boxes as a card beside it says",
        target="fusionkit_plugins.detectors.onnx:OnnxDetector",
        modules=("onnxruntime",),
        extra="onnx",
    )


@hookimpl
def fusionkit_readers() -> Iterator[ReaderRecord]:
    """The built-in readers."""
    yield from READERS


@hookimpl
def fusionkit_writers() -> Iterator[WriterRecord]:
    """The built-in writers."""
    yield from WRITERS

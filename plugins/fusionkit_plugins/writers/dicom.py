"""Writer of DICOM. Needs pydicom."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.contracts import Stored, Writer
from fusionkit.images.metadata import software
from fusionkit.images.picture import PEAK, Array, Depth

from ..readers.dicom import FRAME
from .nifti import TURNED, in_patient

LEAST = 1e-30  # of a slope


class DicomWriter(Writer):
    """A secondary capture: grey of 8 or 16 bits, or RGB, with fresh UIDs and without any patient's data.

    Pixel spacing, position, orientation and frame of reference are the reference's; results of one folder in one frame
    of reference are one series. Floats, such as Hounsfield units, become 16 bits with slope and intercept, exact to
    1/130,000 of their range, which is the window. Places without data have the pixel padding value in grey.
    """

    def write(self, path: Path, stored: Stored) -> Sequence[str]:
        """Write the file (PS3.3 A.8.1, with the planes of C.7.6.2)."""
        pydicom: Any = import_module("pydicom")
        uids = pydicom.uid
        values, padding, slope, intercept = _integers(stored)
        meta = pydicom.dataset.FileMetaDataset()
        meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = uids.SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = uids.generate_uid()
        data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        data.SpecificCharacterSet = "ISO_IR 192"
        data.ImageType = ["DERIVED", "SECONDARY"]
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        for name in EMPTY:
            setattr(data, name, None)
        data.Modality, data.ConversionType, data.SoftwareVersions = "OT", "WSD", software()
        rows, columns, samples = values.shape
        data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, samples
        data.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
        if samples > 1:
            data.PlanarConfiguration = 0
        bits = 8 * values.dtype.itemsize
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
        if padding is not None and samples == 1:  # colours have none (PS3.3 C.7.5.1)
            data.add_new(pydicom.tag.Tag("PixelPaddingValue"), "US", padding)
        number = pydicom.valuerep.format_number_as_ds
        window = stored.window
        if samples == 1 and (stored.values.dtype.kind == "f" or window not in (None, (0.0, float(2**bits - 1)))):
            assert window is not None
            data.RescaleIntercept, data.RescaleSlope, data.RescaleType = number(intercept), number(slope), "US"
            data.WindowCenter, data.WindowWidth = number(sum(window) / 2), number(window[1] - window[0])
        if stored.icc is not None:
            data.ICCProfile = stored.icc
        space = _place(data, stored, number)
        study = [str(path.parent.resolve()), space or str(meta.MediaStorageSOPInstanceUID)]
        data.StudyInstanceUID = uids.generate_uid(entropy_srcs=["study", *study])
        data.SeriesInstanceUID = uids.generate_uid(entropy_srcs=["series", *study])
        if space and not space.startswith(FRAME):
            data.FrameOfReferenceUID = uids.generate_uid(entropy_srcs=["frame", *study])
        pixels = values.astype(f"<u{values.dtype.itemsize}").tobytes()
        data.add_new(pydicom.tag.Tag("PixelData"), "OB" if bits == 8 else "OW", pixels + bytes(len(pixels) % 2))
        data.save_as(path, enforce_file_format=True)
        return ()

    @classmethod
    def refuses(cls, depth: Depth, channels: int, *, alpha: bool) -> str:
        """Colours as floats."""
        if depth == "float" and channels > 1:
            return ".dcm cannot hold colours as floats; pass `depth=8` or `depth=16`, or write .tif"
        return ""


# elements that a file must have, but which nobody knows (type 2)
EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientOrientation"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("SeriesNumber", "InstanceNumber", "Laterality", "Manufacturer", "PositionReferenceIndicator"),
)


def _integers(stored: Stored) -> tuple[Array, int | None, float, float]:
    """Unsigned values (H, W, C), the padding among them, slope and intercept to the values as they were stored."""
    values = stored.values
    if values.dtype.kind != "f":
        return values, None if stored.nodata is None else int(stored.nodata), 1.0, 0.0
    valid = np.isfinite(values[:, :, 0]) if stored.valid is None else stored.valid
    shown = values[valid] if valid.any() else np.zeros((1, 1), np.float32)
    low, high = float(shown.min()), float(shown.max())
    first = 0 if valid.all() else 1  # the first value is the padding
    slope = max((high - low) / (PEAK["16"] - first), LEAST)
    steps = np.rint((np.where(valid[:, :, None], values, low).astype(np.float64) - low) / slope) + first
    whole = np.where(valid[:, :, None], steps.clip(first, PEAK["16"]), 0).astype(np.uint16)
    return whole, 0 if first else None, slope, low - first * slope


def _place(data: Any, stored: Stored, number: Any) -> str:
    """Give a file the reference's plane in its space, in mm; returns the space, "" where it is no patient's."""
    place = stored.place
    if place is None or not in_patient(place):
        return ""
    matrix = place.matrix if place.space.startswith("DICOM") else TURNED @ place.matrix
    along, down = matrix[:, 0], matrix[:, 1]
    across, lower = np.linalg.norm(along), np.linalg.norm(down)
    data.ImagePositionPatient = [number(v) for v in matrix[:, 2]]
    data.ImageOrientationPatient = [number(v) for v in (*(along / across), *(down / lower))]
    data.PixelSpacing = [number(lower), number(across)]
    if place.space.startswith(FRAME):
        data.FrameOfReferenceUID = place.space.removeprefix(FRAME)
    return place.space

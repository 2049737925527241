"""Files of each format that the built-in readers take, made here, and what they hold."""

import numpy as np


def ramp(dtype, top, channels=1):
    """Values (24, 40, channels) that differ from place to place."""
    y, x, c = np.mgrid[:24, :40, :channels]
    return ((x * 24 + y + 7 * c) * top / (39 * 24 + 23 + 7 * channels)).astype(dtype)


def png(path):
    from PIL import Image

    values = ramp(np.uint8, 255, 3)
    Image.fromarray(values).save(path)
    return values


def tiff(path):
    import tifffile

    values = ramp(np.uint16, 4000)
    tifffile.imwrite(path, values[..., 0])
    return values


def exr(path):
    import OpenEXR

    values = ramp(np.float32, 6.0, 3)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGB": values}).write(str(path))
    return values


def dicom(path, values=None, **fields):
    """CT-like: 12 bits in 16 (8 of uint8), Hounsfield units by slope and intercept, a window."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    values = ramp(np.uint16, 3000)[..., 0] if values is None else values
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.PatientName = "Nobody^Nowhere"
    data.Rows, data.Columns = values.shape[-2:]
    data.NumberOfFrames = 1 if values.ndim == 2 else len(values)
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored = (8, 8) if values.dtype == np.uint8 else (16, 12)
    data.RescaleSlope, data.RescaleIntercept = 1, -1000
    data.WindowCenter, data.WindowWidth = 40, 400
    for name, value in fields.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data.PixelData = values.astype(f"<u{values.dtype.itemsize}").tobytes()
    data.save_as(path, enforce_file_format=True)
    shown = (values if values.ndim == 2 else values[0]).astype(np.float32)
    return (shown * float(data.RescaleSlope or 1) + float(data.RescaleIntercept or 0))[..., None]


def nifti(path, values=None):
    """A volume (x, y, z) to the right, front and top; returns its lowest slice as it is shown."""
    import nibabel

    values = np.random.default_rng(0).integers(0, 900, (40, 24, 5)).astype(np.int16) if values is None else values
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return values[::-1, ::-1, 0].T[..., None]


def netpbm(path):
    values = ramp(np.uint16, 4000, 3)
    path.write_bytes(b"P6\n40 24\n4095\n" + values.astype(">u2").tobytes())
    return values


def codecs(path):
    from imagecodecs import jpegxl_encode

    values = ramp(np.uint16, 4000, 3)
    path.write_bytes(jpegxl_encode(values, lossless=True))
    return values


EXAMPLES = {"pillow": png, "tiff": tiff, "netpbm": netpbm, "codecs": codecs, "exr": exr, "dicom": dicom, "nifti": nifti}

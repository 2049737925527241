"""DICOM as scanners and archives write it: values, windows, inversion, colour, codecs, places."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLSLossless, RLELossless

from example_files import dicom, ramp
from fusionkit.errors import ImageReadError
from fusionkit.reading import read_image
from fusionkit.reading.ranges import Reading, source_ranges
from fusionkit_plugins.readers.dicom import DicomReader

NO_WINDOW = {"WindowCenter": None, "WindowWidth": None}
PLAIN = {"RescaleSlope": None, "RescaleIntercept": None, **NO_WINDOW}


def blob():
    """(24, 40) of 600 to 1000."""
    return ramp(np.uint16, 400)[..., 0] + np.uint16(600)


def change(path, **fields):
    """Set elements of a file, or delete those that are given as None."""
    data = pydicom.dcmread(path)
    for name, value in fields.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path)
    return data


def item(**fields):
    dataset = Dataset()
    for name, value in fields.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


def unit(path, span="auto"):
    return read_image(path, span).pixels[..., 0]


class TestInversion:
    """MONOCHROME1: the window first, then the inversion."""

    @pytest.mark.parametrize(
        "fields",
        [
            PLAIN,
            {**PLAIN, "WindowCenter": 800, "WindowWidth": 400},
            {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": -224, "WindowWidth": 400},
        ],
    )
    def test_dark_is_what_was_bright(self, tmp_path, fields):
        dicom(tmp_path / "a.dcm", blob(), PhotometricInterpretation="MONOCHROME1", **fields)
        right = 1 - (blob() - 600.0) / (blob().max() - 600 if fields is PLAIN else 400)
        assert np.allclose(unit(tmp_path / "a.dcm"), right, atol=1e-6)

    def test_the_range_of_a_folder_is_in_the_units_of_the_file_too(self, tmp_path):
        paths = [tmp_path / f"{name}.dcm" for name in "ab"]
        for path, more in zip(paths, (0, 100), strict=True):
            dicom(path, blob() + np.uint16(more), PhotometricInterpretation="MONOCHROME1", **PLAIN)
        (span,) = source_ranges([[path] for path in paths], Reading())
        assert span == (pytest.approx(600, abs=1), pytest.approx(int(blob().max()) + 100, abs=1))
        a, b = (unit(path, span) for path in paths)
        assert np.allclose(a - b, 100 / (span[1] - span[0]), atol=1e-6)

    def test_a_range_is_in_the_units_of_the_file(self, tmp_path):
        dicom(tmp_path / "a.dcm", blob(), PhotometricInterpretation="MONOCHROME1", **PLAIN)
        assert np.allclose(
            unit(tmp_path / "a.dcm", (700.0, 900.0)), 1 - np.clip((blob() - 700.0) / 200, 0, 1), atol=1e-6
        )

    def test_eight_bits(self, tmp_path):
        values = ramp(np.uint8, 127)[..., 0]
        dicom(tmp_path / "a.dcm", values, PhotometricInterpretation="MONOCHROME1", BitsStored=7, **PLAIN)
        assert np.allclose(unit(tmp_path / "a.dcm"), 1 - values / 127, atol=0.003)


class TestValues:
    def test_empty_elements_are_absent(self, tmp_path):
        dicom(tmp_path / "a.dcm", blob(), NumberOfFrames=None, **PLAIN)
        assert read_image(tmp_path / "a.dcm").span == (600, blob().max())

    def test_one_bit_is_black_and_white(self, tmp_path):
        mask = (ramp(np.uint8, 255)[..., 0] > 100).astype(np.uint8)
        dicom(tmp_path / "a.dcm", mask, BitsStored=1, **PLAIN)
        assert np.array_equal(unit(tmp_path / "a.dcm"), mask)

    @pytest.mark.parametrize("where", ["Shared", "PerFrame"])
    def test_functional_groups_tell_of_rescaling_and_window(self, tmp_path, where):
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        group = Dataset()
        group.PixelValueTransformationSequence = item(RescaleIntercept=-1024, RescaleSlope=1)
        group.FrameVOILUTSequence = item(WindowCenter=40, WindowWidth=400)
        change(tmp_path / "a.dcm", **{f"{where}FunctionalGroupsSequence": Sequence([group])})
        assert np.allclose(unit(tmp_path / "a.dcm"), np.clip((blob() - 1024.0 + 160) / 400, 0, 1), atol=1e-6)
        assert np.allclose(DicomReader().read(tmp_path / "a.dcm", 10**6)[0].values[..., 0], blob() - 1024.0)

    def test_each_frame_has_its_own_slope(self, tmp_path):
        """PET: slopes differ from slice to slice."""
        dicom(tmp_path / "a.dcm", np.stack([blob(), blob()]), **PLAIN)
        groups = []
        for slope in (1, 2):
            group = Dataset()
            group.PixelValueTransformationSequence = item(RescaleIntercept=0, RescaleSlope=slope)
            groups.append(group)
        change(tmp_path / "a.dcm", PerFrameFunctionalGroupsSequence=Sequence(groups))
        first, second = DicomReader().read(tmp_path / "a.dcm", 10**6)
        assert np.array_equal(second.values, 2 * first.values)

    def test_float_pixels(self, tmp_path):
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        change(
            tmp_path / "a.dcm",
            **dict.fromkeys(("PixelData", "BitsStored", "HighBit", "PixelRepresentation")),
            BitsAllocated=32,
            FloatPixelData=(blob() / 1000).astype("<f4").tobytes(),
        )
        assert np.allclose(DicomReader().read(tmp_path / "a.dcm", 10**6)[0].values[..., 0], blob() / 1000)

    def test_padding_is_no_data(self, tmp_path):
        values = blob()
        values[:5] = 63000
        values[5] = 62990
        padding = {**PLAIN, "BitsStored": 16, "PixelPaddingValue": 63000}
        dicom(tmp_path / "a.dcm", values, **padding)
        dicom(tmp_path / "b.dcm", values, **padding, PixelPaddingRangeLimit=62900)
        for name, first in (("a.dcm", 5), ("b.dcm", 6)):
            valid = DicomReader().read(tmp_path / name, 10**6)[0].valid
            assert (valid[first:].all(), valid[:first].any()) == (True, False)

    def test_a_sigmoid_and_a_table_are_what_is_shown(self, tmp_path):
        dicom(
            tmp_path / "a.dcm", blob(), **{**PLAIN, "WindowCenter": 800, "WindowWidth": 100}, VOILUTFunction="SIGMOID"
        )
        assert np.allclose(unit(tmp_path / "a.dcm"), 1 / (1 + np.exp(-4 * (blob() - 800.0) / 100)), atol=1e-6)
        dicom(tmp_path / "b.dcm", blob(), **PLAIN)
        table = (np.arange(401) ** 2 * 1023 // 160000).astype(np.uint16)
        change(tmp_path / "b.dcm", VOILUTSequence=item(LUTDescriptor=[401, 600, 10], LUTData=table.tobytes()))
        picture = read_image(tmp_path / "b.dcm", "full")
        assert np.array_equal(np.round(picture.pixels[..., 0] * 1023), table[blob() - 600])
        assert "VOI LUT" in picture.notes[0]

    def test_a_modality_table_gives_the_values(self, tmp_path):
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        table = (np.arange(401) * 7).astype(np.uint16)
        lut = item(LUTDescriptor=[401, 600, 16], ModalityLUTType="US", LUTData=table.tobytes())
        change(tmp_path / "a.dcm", ModalityLUTSequence=lut)
        assert np.array_equal(DicomReader().read(tmp_path / "a.dcm", 10**6)[0].values[..., 0], (blob() - 600) * 7)

    def test_a_window_of_eight_bits(self, tmp_path):
        values = ramp(np.uint8, 255)[..., 0]
        for name, center, width in (("a", 128, 256), ("b", 100, 50)):
            dicom(tmp_path / f"{name}.dcm", values, **{**PLAIN, "WindowCenter": center, "WindowWidth": width})
        assert np.array_equal(read_image(tmp_path / "a.dcm").values[..., 0], values)
        assert np.allclose(unit(tmp_path / "b.dcm"), np.clip((values - 75.0) / 50, 0, 1), atol=0.003)


class TestColour:
    def test_ybr_is_rgb(self, tmp_path):
        from PIL import Image

        rgb = np.ascontiguousarray(ramp(np.uint8, 255, 3)[..., ::-1])
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        change(
            tmp_path / "a.dcm",
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="YBR_FULL",
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelData=np.asarray(Image.fromarray(rgb).convert("YCbCr")).tobytes(),
        )
        assert np.abs(read_image(tmp_path / "a.dcm").values.astype(int) - rgb).max() <= 2

    def test_a_palette_is_colour(self, tmp_path):
        index = ramp(np.uint8, 255)[..., 0]
        lut = np.arange(256, dtype=np.uint16) * 257
        tables = {"Red": lut, "Green": lut // 2, "Blue": 65535 - lut}
        dicom(
            tmp_path / "a.dcm",
            index,
            **PLAIN,
            PhotometricInterpretation="PALETTE COLOR",
            **{f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in tables},
            **{f"{name}PaletteColorLookupTableData": table.astype("<u2").tobytes() for name, table in tables.items()},
        )
        picture = read_image(tmp_path / "a.dcm")
        assert np.array_equal(picture.values, np.stack([t[index] for t in tables.values()], 2))


class TestFiles:
    def test_without_preamble_by_any_name(self, tmp_path):
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        data = pydicom.dcmread(tmp_path / "a.dcm")
        bare = Dataset()
        bare.update({element.tag: element for element in data})
        for name, implicit in (("IM000001", False), ("b.dcm", True)):
            bare.save_as(tmp_path / name, implicit_vr=implicit, little_endian=True)
            assert (tmp_path / name).read_bytes()[128:132] != b"DICM"
            assert np.array_equal(read_image(tmp_path / name).values, blob()[..., None])

    def test_jpeg_ls_through_imagecodecs_or_by_name(self, tmp_path, monkeypatch):
        imagecodecs = pytest.importorskip("imagecodecs")
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        data = pydicom.dcmread(tmp_path / "a.dcm")
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        data.PixelData = encapsulate([imagecodecs.jpegls_encode(blob())])
        data["PixelData"].VR = "OB"
        data.save_as(tmp_path / "a.dcm")
        assert np.array_equal(read_image(tmp_path / "a.dcm").values[..., 0], blob())
        decoder = pydicom.pixels.get_decoder(JPEGLSLossless)
        monkeypatch.setattr(decoder, "_available", {})
        monkeypatch.setattr("fusionkit_plugins.readers.dicom_codecs.find_spec", lambda name: None)
        (tmp_path / "b.dcm").write_bytes((tmp_path / "a.dcm").read_bytes())
        with pytest.raises(ImageReadError, match=r"compressed as JPEG-LS.*pip install 'imagecodecs>="):
            read_image(tmp_path / "b.dcm")

    def test_a_stream_larger_than_its_header_is_not_decoded(self, tmp_path):
        imagecodecs = pytest.importorskip("imagecodecs")
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        data = pydicom.dcmread(tmp_path / "a.dcm")
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        data.PixelData = encapsulate([imagecodecs.jpegls_encode(np.zeros((500, 400), np.uint16))])
        data["PixelData"].VR = "OB"
        data.save_as(tmp_path / "a.dcm")
        with pytest.raises(ImageReadError, match=r"\(500, 400\) rows and columns in the stream"):
            read_image(tmp_path / "a.dcm")

    def test_many_frames_and_deflate_are_bounded_before_they_are_decoded(self, tmp_path):
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        change(tmp_path / "a.dcm", NumberOfFrames=10**6)
        with pytest.raises(ImageReadError, match="1000000 pictures of 40x24 is over the limit"):
            read_image(tmp_path / "a.dcm")
        data = change(tmp_path / "a.dcm", NumberOfFrames=1)
        data.PixelData = bytes(10**7)
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.save_as(tmp_path / "b.dcm")
        assert (tmp_path / "b.dcm").stat().st_size < 100_000
        with pytest.raises(ImageReadError, match="inflates to more than"):
            read_image(tmp_path / "b.dcm", max_pixels=10_000)

    def test_items_are_bounded_in_deflated_files_too(self, tmp_path, monkeypatch):
        dicom(tmp_path / "a.dcm", blob(), **PLAIN)
        data = change(tmp_path / "a.dcm", RequestAttributesSequence=Sequence([Dataset() for _ in range(2000)]))
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.save_as(tmp_path / "a.dcm")
        assert len(DicomReader().read(tmp_path / "a.dcm", 10**6)) == 1
        monkeypatch.setattr("fusionkit_plugins.readers.dicom_elements.MOST_ITEMS", 1000)
        with pytest.raises(ImageReadError, match="more than 1000 items"):
            DicomReader().read(tmp_path / "a.dcm", 10**6)

    def test_pixels_are_no_items(self, tmp_path):
        values = np.tile(np.array([0xFFFE, 0xE000], np.uint16), (2048, 1024))
        dicom(tmp_path / "a.dcm", values, **PLAIN, BitsStored=16)
        assert read_image(tmp_path / "a.dcm").size == (2048, 2048)

    def test_a_file_of_several_frames_is_parsed_once(self, tmp_path, monkeypatch):
        dicom(tmp_path / "a.dcm", np.stack([blob(), blob()[::-1]]), **PLAIN)
        whole, parsed = pydicom.filereader.read_partial, []
        monkeypatch.setattr(pydicom.filereader, "read_partial", lambda *a, **k: parsed.append(a) or whole(*a, **k))
        first, second = DicomReader().read(tmp_path / "a.dcm", 10**6)
        assert np.array_equal(first.values, second.values[::-1])
        assert len(parsed) == 1

    @pytest.mark.parametrize(
        "name",
        [
            *("CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm"),
            *("JPEG-lossy.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle_32bit.dcm", "image_dfl.dcm"),
            *("examples_palette.dcm", "examples_ybr_color.dcm", "liver_1frame.dcm", "rtdose.dcm", "693_J2KI.dcm"),
        ],
    )
    def test_real_files(self, name):
        pytest.importorskip("imagecodecs")
        path = get_testdata_file(name, download=False)
        if path is None:
            pytest.skip("not in this pydicom's package")
        picture = read_image(path, picture=0)
        assert 0 <= picture.pixels.min() < picture.pixels.max() <= 1

    def test_real_files_hold_what_pydicom_decodes(self):
        path = Path(get_testdata_file("CT_small.dcm"))
        data = pydicom.dcmread(path)
        expected = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        assert np.array_equal(DicomReader().read(path, 10**6)[0].values[..., 0], expected)


def test_rle_is_decoded_by_pydicom(tmp_path):
    dicom(tmp_path / "a.dcm", blob(), **PLAIN)
    data = pydicom.dcmread(tmp_path / "a.dcm")
    data.compress(RLELossless, blob())
    data.save_as(tmp_path / "b.dcm")
    assert np.array_equal(read_image(tmp_path / "b.dcm").values[..., 0], blob())

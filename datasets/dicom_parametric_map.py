"""Float32 values as a DICOM Parametric Map, which few viewers show but nothing rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from invdiff.datasets.dicom_derivation import Derivation, SeriesLabel, new_uid, software_version
from invdiff.datasets.dicom_folder import save_image
from invdiff.datasets.dicom_images import (
    contributing_equipment,
    derived_header,
    place,
    voi_function,
)
from invdiff.datasets.dicom_limits import quiet_pydicom
from invdiff.datasets.dicom_quantise import window_for
from invdiff.datasets.dicom_volume import DicomVolume
from invdiff.errors import NotFinite, ShapeError
from invdiff.files import written_whole

__all__ = ["DEVIATION_MAP", "write_parametric_map"]

DEVIATION_MAP = SeriesLabel("invdiff posterior SD map, not for diagnosis", 903)
UNITS = {"HU": ("[hnsf'U]", "Hounsfield unit"), "1": ("1", "no units")}  # UCUM
STAND_IN = "2.25.1"  # never written


@quiet_pydicom()
def write_parametric_map(
    path: str | Path,
    values: np.ndarray,
    source: DicomVolume,
    derivation: Derivation,
    label: SeriesLabel = DEVIATION_MAP,
) -> None:
    """Writes values on the grid of ``source`` as one multi-frame file of floating-point numbers.

    Needs highdicom: ``pip install invdiff[dicom]``.

    Arguments:
        path: A new file.
        values: (slices, rows, columns), in the units of the source; stored as float32.
        source: What they were derived from.
        derivation: How.
        label: How the series appears.

    Raises:
        ImportError: If highdicom is not installed.
        ShapeError: If the values do not have the shape of the source.
        NotFinite: If a value is NaN or infinite.
        FileExistsError: If the file exists.
        ValueError: If the source's header cannot be encoded.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError("The output file exists. Choose a new name, or remove it.")
    if values.shape != source.pixels.shape:
        raise ShapeError(
            f"The values have shape {values.shape}, but the source {source.pixels.shape} (slices, "
            "rows, columns). A map lies on the grid of its source."
        )
    if not np.isfinite(values).all():
        raise NotFinite("The map has values that are NaN or infinite, expected none.")
    highdicom = _highdicom()
    try:
        image = _map(highdicom, values.astype(np.float32), source, label)
    except Exception as error:
        raise ValueError(
            f"The parametric map could not be made ({type(error).__name__}): the header of the "
            "source lacks something, or is invalid."
        ) from None
    _correct(image, source, derivation, label)
    with written_whole(path) as temporary:
        save_image(temporary, image)


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError:
        raise ImportError(
            "Parametric maps need highdicom. Install it with: pip install invdiff[dicom]"
        ) from None
    return highdicom


def _map(highdicom: Any, values: np.ndarray, source: DicomVolume, label: SeriesLabel) -> Dataset:
    code, meaning = UNITS[source.units]
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="SD",
        lut_explanation="Posterior standard deviation",
        unit=highdicom.sr.CodedConcept(code, "UCUM", meaning),
        value_range=(float(values.min()), float(values.max())),
        intercept=0,
        slope=1,
    )
    centre, width = label.window or window_for(values, "SD")
    image: Dataset = highdicom.pm.ParametricMap(
        source_images=_references(source),
        pixel_array=values,
        series_instance_uid=new_uid(label.identity, "series"),
        series_number=label.number,
        sop_instance_uid=new_uid(label.identity, "map"),
        instance_number=1,
        manufacturer="invdiff",
        manufacturer_model_name="invdiff",
        software_versions=software_version(),
        device_serial_number="none",
        contains_recognizable_visual_features=True,  # it may
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            highdicom.VOILUTTransformation(
                window_center=centre,
                window_width=width,
                voi_lut_function=voi_function((centre, width)),
            )
        ],
        content_description="Not for diagnostic use",
        series_description=label.description,
    )
    return image


def _references(source: DicomVolume) -> list[Dataset]:
    """A single-frame image for each slice, named by its number until ``_correct``."""
    images = []
    for k, (header, plane) in enumerate(zip(source.headers, source.planes, strict=True)):
        image = derived_header(header, source.modality)
        place(image, plane, source.spacing[0], len(source.planes) == 1)
        image.Rows, image.Columns = plane.shape
        image.SOPInstanceUID = f"{STAND_IN}.{k + 1}"
        images.append(image)
    return images


def _correct(
    image: Dataset, source: DicomVolume, derivation: Derivation, label: SeriesLabel
) -> None:
    """Names the source's images and frames, and adds what highdicom leaves out."""
    image.Laterality = source.headers[0].get("Laterality")
    image.ContributingEquipmentSequence = [contributing_equipment()]
    for group in image.PerFrameFunctionalGroupsSequence:
        for step in group.DerivationImageSequence:
            step.DerivationDescription = derivation.description
            for item in step.SourceImageSequence:
                _name(item, source, of_a_frame=True)
    for parent, name in (
        (image, "SourceImageSequence"),
        (image.ReferencedSeriesSequence[0], "ReferencedInstanceSequence"),
    ):
        for item in parent[name].value:
            _name(item, source, of_a_frame=False)
        named = {item.ReferencedSOPInstanceUID: item for item in parent[name].value}
        setattr(parent, name, list(named.values()))
    organization = new_uid(label.identity, "dimensions")
    for item in (*image.DimensionOrganizationSequence, *image.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    image.ContentDate = image.InstanceCreationDate = label.moment[:8]
    image.ContentTime = image.InstanceCreationTime = label.moment[8:]


def _name(item: Dataset, source: DicomVolume, of_a_frame: bool) -> None:
    stand_in, number = item.ReferencedSOPInstanceUID.rsplit(".", 1)
    if stand_in != STAND_IN:  # two sequences share their items
        return
    k = int(number) - 1
    item.ReferencedSOPClassUID = source.headers[k].SOPClassUID
    item.ReferencedSOPInstanceUID = source.headers[k].SOPInstanceUID
    if source.planes[k].multiframe and of_a_frame:
        item.ReferencedFrameNumber = source.planes[k].frame + 1

"""One picture's result, at the picture's own size, and the files that it is saved to."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from disa.data.images import Pixels
from disa.data.vocabulary import name_key
from disa.errors import DisaError
from disa.formats.coco import coco_data
from disa.inference.colours import label_colours
from disa.inference.heatmaps import saliency_sheet
from disa.inference.labels import Background, synonyms
from disa.inference.overlay import areas, index_image, palette_image
from disa.inference.overlay import overlay as draw_overlay
from disa.inference.result_names import as_json_has_it, free_names
from disa.running.extras import imported
from disa.running.files import at_home, make_folder, write_whole

Array = NDArray[Any]
BACKGROUND = -1  # in `labels`: a pixel that a background policy gives to no label
LABELS_SHOWN = 5  # in one line
OVERLAY_PACKING = 3  # of PNG's 0 to 9: twice as fast as the usual 6, a fifth larger
NO_THINGS = (
    "the foreground needs a model that was trained to tell things from stuff (things=True); this "
    "one was not"
)


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """What the model says about one picture, at the picture's own size.

    `words` are the caller's labels, and `labels` is the map of their indices (decision D100).
    """

    image: Pixels  # (H, W, 3)
    words: tuple[str, ...]
    labels: Array  # (H, W) int32, index into `words`; -1 where a background policy gives none
    confidence: Array  # (H, W) float32 in 0..1: the best score, labels of the background included
    background: Background = None  # the policy of the call
    scores: Array | None = None  # (t, H, W) float32 in 0..1 per label, not competing; if asked for
    # Per label the probability that it is in the picture at all (ITM); None: behind the gate.
    matched: dict[str, float | None] | None = None
    token_saliency: Array | None = None  # (t, h, w) >= 0, as the model gives it
    things: Array | None = None  # (h, w) in 0..1, of any size: is a thing here?
    source: str | None = None  # the file it came from

    @property
    def saliency(self) -> Mapping[str, Array]:
        """Where each label looks: label -> (H, W) float32, its own peak at 1.

        `matched` says whether it is there. Raises `DisaError` for a model without the SDM.
        """
        if self.token_saliency is None:
            raise DisaError(
                "saliency needs a model with the SDM; this one has none (disentangle=False)"
            )
        return _SaliencyMaps(self.words, self.token_saliency, self.labels.shape)

    @property
    def foreground(self) -> Array:
        """Return (H, W) bool: the things, whatever they are.

        Raises `DisaError` for a model that was not trained to tell things from stuff.
        """
        if self.things is None:
            raise DisaError(NO_THINGS)
        return _enlarged(self.things, self.labels.shape) > 0.5

    @property
    def areas(self) -> dict[str, int]:
        """Pixels of each label."""
        counts = areas(self.labels, len(self.words))
        return {word: int(count) for word, count in zip(self.words, counts, strict=True)}

    @property
    def mean_scores(self) -> dict[str, float | None]:
        """Mean score of each label over the pixels that it won, in 0..1; None where it won none."""
        sums = areas(self.labels, len(self.words), self.confidence)
        return {
            word: float(total / area) if area else None
            for (word, area), total in zip(self.areas.items(), sums, strict=True)
        }

    def __repr__(self) -> str:
        """Return one line: the file, the size, and the labels with the largest shares."""
        height, width = self.labels.shape
        shares = sorted(self.areas.items(), key=lambda item: -item[1])
        shown = [f"{word} {area / self.labels.size:.0%}" for word, area in shares[:LABELS_SHOWN]]
        if len(shares) > LABELS_SHOWN:
            shown.append(f"and {len(shares) - LABELS_SHOWN} more labels")
        name = as_json_has_it(self.source) if self.source else "image"
        return f"<Segmentation of {name}, {width} x {height}: {', '.join(shown)}>"

    def _repr_png_(self) -> bytes:
        """Return the overlay as PNG: notebooks show it where a result is the last line."""
        file = io.BytesIO()
        self.overlay().save(file, "PNG")
        return file.getvalue()

    def mask(self, label: str) -> Array:
        """Return where a label is, (H, W) bool; a synonym of it will do: "ship" of "boat|ship".

        Raises `DisaError` for a label that the call did not have.
        """
        for index, word in enumerate(self.words):
            if name_key(label) in map(name_key, (word, *synonyms(word))):
                return self.labels == index
        raise DisaError(f'"{label}" is none of the labels: {", ".join(self.words)}')

    def overlay(self, *, beside: bool = False) -> Image.Image:
        """Return the picture tinted by label, with a legend; `beside` shows the original, too."""
        return draw_overlay(self.image, self.labels, self.words, beside=beside)

    def to_coco(self) -> dict[str, Any]:
        """Return COCO's data set of this one picture, plain data for `json.dump`.

        Each label with a pixel is an annotation, its mask as compressed runs. Ids begin with 1.
        """
        name = as_json_has_it(Path(self.source).name) if self.source else "image"
        data: dict[str, Any] = coco_data([(name, self.labels)], self.words)
        return data

    def to_supervision(self) -> Any:
        """Return supervision's `Detections`: each label with a pixel, its mask and mean score.

        Labels are in `data["class_name"]`. Raises `DisaError` if supervision, an extra, is not
        installed.
        """
        supervision = imported("to_supervision()", "supervision", "supervision")
        found = [index for index, area in enumerate(self.areas.values()) if area]
        if not found:
            return supervision.Detections.empty()
        words = [self.words[index] for index in found]
        masks = np.stack([self.labels == index for index in found])
        means = self.mean_scores
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            confidence=np.array([means[word] for word in words], np.float32),
            class_id=np.array(found),
            data={"class_name": np.array(words)},
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data: the size, and each label's colour, area, share, score and match."""
        height, width = self.labels.shape
        means = self.mean_scores
        colours = label_colours(self.words).tolist()
        words = [
            {
                "word": word,
                "index": index,
                "colour": colours[index],
                "area": area,
                "share": area / (height * width),
                "mean_score": means[word],
                "matched": None if self.matched is None else self.matched[word],
            }
            for index, (word, area) in enumerate(self.areas.items())
        ]
        empty = int((self.labels == BACKGROUND).sum())
        background = {"policy": self.background, "area": empty, "share": empty / (height * width)}
        return {
            "image": self.source,
            "width": width,
            "height": height,
            "words": words,
            "background": background,
        }

    def save(
        self,
        folder: str | Path,
        stem: str | None = None,
        *,
        overlay: bool = True,
        saliency: bool = False,
        beside: bool = False,
        grey: bool = True,
    ) -> list[Path]:
        """Write STEM_overlay.png, STEM_labels.png, STEM.json and what else there is.

        The label map holds indices as grey values, which every reader gives back; with `grey`
        False it has a palette for viewers. STEM.json says which label an index is.
        Scores go to STEM_scores.npz, where they were asked for; `saliency` adds STEM_saliency.png,
        and without `overlay` there is none.
        `stem` is the source file's unless given, or "image" for an array, with a number where the
        folder holds another picture's results by that name. Files of a given `stem` are replaced.
        Each file appears whole or not at all. Return the paths. Raises `DisaError` if the folder
        cannot be written.
        """
        folder = at_home(folder)
        make_folder(folder)
        if stem is None:
            own = Path(self.source).stem if self.source else "image"
            stem = next(iter(free_names(own, self.source, [folder])))
        written = []
        for ending, write in self._writers(overlay, saliency, beside, grey).items():
            path = folder / f"{stem}{ending}"
            write_whole(path, write)
            written.append(path)
        return written

    def _writers(
        self, overlay: bool, saliency: bool, beside: bool, grey: bool
    ) -> dict[str, Callable[[IO[bytes]], Any]]:
        """Return what fills each file, by the ending of its name."""
        indexed = (index_image if grey else palette_image)(self.labels, self.words)
        # The name of the source may be bytes that are no text.
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"
        encoded = text.encode(errors="backslashreplace")
        writers: dict[str, Callable[[IO[bytes]], Any]] = {}
        if overlay:
            drawn = self.overlay(beside=beside)
            writers["_overlay.png"] = lambda file: drawn.save(
                file, "PNG", compress_level=OVERLAY_PACKING
            )
        writers["_labels.png"] = lambda file: indexed.save(file, "PNG")
        if saliency:
            foreground = None if self.things is None else self.foreground
            sheet = saliency_sheet(self.image, self.saliency, self.matched, foreground)
            writers["_saliency.png"] = lambda file: sheet.save(file, "PNG")
        if self.scores is not None:
            scores = self.scores.astype(np.float16)
            words = np.array(self.words)
            writers["_scores.npz"] = lambda file: np.savez_compressed(
                file, scores=scores, words=words
            )
        # It comes last: where it is, the others are.
        writers[".json"] = lambda file: file.write(encoded)
        return writers

    def plot(self) -> Any:
        """Return a matplotlib figure of the picture and its segmentation, for notebooks.

        Raises `DisaError` if matplotlib, an extra, is not installed.
        """
        figures = imported("plot()", "plot", "matplotlib.figure")
        drawn = self.overlay(beside=True)
        figure = figures.Figure(
            figsize=(drawn.width / 100, drawn.height / 100), dpi=100, layout="constrained"
        )
        axes = figure.add_subplot()
        axes.imshow(np.asarray(drawn))
        axes.set_axis_off()
        return figure


@dataclass(frozen=True)
class Saving:
    """Where results go, and which files there are of each. Processes that draw get it, too."""

    out: Path
    overlay: bool = True
    saliency: bool = False
    beside: bool = False
    grey: bool = True

    def __call__(self, folder: str, name: str, result: Segmentation) -> None:
        """Write one result into a folder of `out`. Raises `DisaError` if the disk refuses."""
        result.save(
            self.out / folder,
            name,
            overlay=self.overlay,
            saliency=self.saliency,
            beside=self.beside,
            grey=self.grey,
        )


class _SaliencyMaps(Mapping[str, Array]):
    """Maps made when asked for: all of them at full size would fill the memory."""

    def __init__(self, labels: tuple[str, ...], tokens: Array, shape: tuple[int, ...]) -> None:
        self._labels = labels
        self._tokens = tokens
        self._shape = shape

    def __getitem__(self, label: str) -> Array:
        if label not in self._labels:
            raise KeyError(f"{label!r} is none of the labels {', '.join(self._labels)}")
        tokens = self._tokens[self._labels.index(label)]
        peak = tokens.max()
        return _enlarged(tokens / peak if peak > 0 else tokens, self._shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


def _enlarged(tokens: Array, shape: tuple[int, ...]) -> Array:
    """Resize a map (h, w) to (H, W), bilinear."""
    image = Image.fromarray(tokens.astype(np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))

"""`disa segment`: pictures and labels in; overlay, label map and JSON per picture out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from disa.batch.cluster import Cluster
from disa.errors import DisaError, one_line
from disa.formats.write import FORMATS, parse_formats, write_formats
from disa.inference.request import Excerpt, Job, Query, Request
from disa.interfaces.segment_videos import is_video, named_videos, segment_videos
from disa.running.files import prepare_folder
from disa.running.records import options, save_config
from disa.running.terminal import Report, counted, say, warn

if TYPE_CHECKING:  # they import torch, which takes seconds
    from disa.data.images import Reading
    from disa.inference.segmenter import Segmenter
    from disa.running.processes import Processes

PICTURES_PER_WORKER = 4  # fewer are drawn in the time that a process needs to start
SOME_FAILED = 1
ALL_FAILED = 2
CLASSES = "classes.json"  # what the values of label maps mean
RECORD = "segment.yaml"  # what was asked for, beside the results

# Options that mean something to pictures alone.
OF_PICTURES = (
    "recursive",
    "bands",
    "stretch",
    "saliency",
    "beside",
    "grey",
    "classes",
    "format",
    "skip_existing",
)
HERE = ("workers", "device")  # options of this machine alone


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Segment pictures or videos by labels given as text.

    For each picture, OUT gets NAME_overlay.png (to look at, with a legend), NAME_labels.png (label
    indices as grey values, 255 is background) and NAME.json (area and mean score of each label).
    A picture that cannot be read is reported and the others are done. Results of earlier runs are
    no pictures. OUT/segment.yaml holds the options; `--config` takes it. Results of another picture
    by the same name stay: the new ones are called NAME-2.

    Examples:

    `mini` knows drawings alone; photographs need a model such as cat-seg-b.

      disa segment drawing.png --labels "boat|ship, sea, sky" --out results --model mini

      disa segment holiday/ -l "person, dog, sand" -o results --background 0.3 --model cat-seg-b

      disa segment "scans/*.tif" -l "cup, apple" --background "table, wall" -o out -m cat-seg-b

      disa segment rooms/ --vocabulary a150 --out results --model cat-seg-b --protocol cat-seg

      disa segment film.mp4 -l "person, dog, grass" -o results -m cat-seg-b --every 5 --to 60

      disa segment trip/ -l "sea, sand" -l "person, dog" -o out --skip-existing -m cat-seg-b

      disa segment s3://bucket/trip -l "sea, sand" -o /shared/out -m cat-seg-b --on ray
    """

    # Pictures, folders of pictures, or globs such as "trip/**/*.jpg"; "-" reads standard input.
    # Or videos, cameras such as /dev/video0, and addresses such as rtsp://...
    images: Annotated[Positional[tuple[str, ...]], arg(metavar="IMAGES")]
    # Folder for the results; made if need be.
    out: Annotated[Path, arg(aliases=["-o"])]
    # What to look for, and how.
    request: OmitArgPrefixes[Request] = field(default_factory=Request)
    # A name of `disa models`, a model folder, a CLIP, or an id on the Hugging Face Hub.
    model: Annotated[str, arg(aliases=["-m"])] = "mini"
    # Take the pictures in subfolders, too.
    recursive: bool = False
    # Of TIFFs with many bands: which are red, green and blue (or the only one), such as 4,3,2.
    bands: str | None = None
    # The darkest value of each picture becomes black, the brightest white: for 12 bits in 16,
    # reflectances and other ranges.
    stretch: bool = False
    # Write heat maps of where each label looks, too.
    saliency: bool = False
    # Put the original beside the overlay.
    beside: bool = False
    # Whether to draw the overlay. Of a small picture, this takes longer than the model.
    overlay: bool = True
    # Whether NAME_labels.png has grey indices. With a palette, viewers show it in colours, but
    # OpenCV reads these colours in place of the indices.
    grey: bool = True
    # Name the indices in OUT/classes.json, as a data set does: label maps can be used as masks.
    classes: bool = False
    format: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            help="Write all results in OUT for other tools, too, into OUT/FORMAT: "
            f"{', '.join(FORMATS)}; several with commas between."
        ),
    ] = ()
    # Of polygons (label-studio, yolo, geojson), in pixels: corners that stand out less are left
    # out. 0: the outline of the pixels.
    tolerance: float = 1.0
    # Leave out pictures that have results in OUT, whatever options these were made with.
    skip_existing: bool = False
    # Of videos: which frames, and how labels pass from one to the next.
    excerpt: OmitArgPrefixes[Excerpt] = field(default_factory=Excerpt)
    # `ray`: on the machines of a cluster, or all cores and GPUs of this one. Pictures with results
    # are left out. `disa-seg[ray]` is needed, and docs/cluster.md says more.
    on: Literal["here", "ray"] = "here"
    # With --on ray: which cluster, and how much of it.
    cluster: OmitArgPrefixes[Cluster] = field(default_factory=Cluster)
    # Processes that draw and write results while the model computes the next; 0: none.
    workers: int = 2
    # Numbers inside the model.
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    # Memory that a picture may take above the loaded model, about, such as 500MB; the answers are
    # the same. What needs more at once is refused. Default: 8GB.
    max_memory: str | None = None
    # auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1 or mps.
    device: str = "auto"
    # Read options from this YAML or TOML file; those on the command line win.
    config: Path | None = None

    def run(self) -> int:
        """Segment every picture or video; 1 if some failed, 2 if all did.

        What can be refused is refused before the model is loaded. Raises `DisaError`.
        """
        queries = self.request.parse()
        if any(map(is_video, self.images)):
            return self._segment_videos(queries)
        if self.on == "ray":
            return self._segment_on_ray(queries)
        _refuse(self.cluster, options(Cluster), "is for --on ray")
        return self._segment_pictures(queries)

    def _segment_videos(self, queries: Mapping[str, Query]) -> int:
        _refuse(self, OF_PICTURES, "is for pictures, not for videos")
        if self.on == "ray":
            raise DisaError("--on ray is for pictures, not for videos")
        if self.request.scores or len(queries) > 1:
            raise DisaError("a video is segmented by one set of labels, and without --scores")
        (query,) = queries.values()
        videos = named_videos(self.images, self.out)
        return segment_videos(
            videos, query, self.excerpt, self.out, self.overlay, self.model, self._load
        )

    def _load(self, processes: "Processes") -> "Segmenter":
        from disa.inference.segmenter import load
        from disa.running.devices import DTYPES

        device = processes.device(self.device)
        return load(self.model, device, DTYPES[self.dtype], self.max_memory)

    def _segment_pictures(self, queries: Mapping[str, Query]) -> int:
        from disa.data.images import parse_reading
        from disa.data.picture_paths import expand
        from disa.inference.result_names import has_results, keep_apart

        if not self.images:
            raise DisaError("no picture given; name files, folders or globs")
        formats = parse_formats(self.format, self.tolerance)
        reading = parse_reading(self.request.max_pixels, self.bands, self.stretch)
        found = expand(self.images, self.recursive)
        keep_apart(found.files, self.out)
        prepare_folder(self.out)
        jobs = self._jobs(found.files, queries)

        # Only now, because this import takes seconds.
        from disa.interfaces.segment_notes import introduce, judge_pictures, renamed, show_notes
        from disa.running.processes import join

        with join() as processes:
            segmenter = self._load(processes)
            # Prompts that this model cannot read are no picture's fault, so they are refused here.
            for query in queries.values():
                segmenter.embed(query)
            notes = list(found.notes)
            own = jobs[processes.rank :: processes.count]
            if self.skip_existing:
                folders = [self.out / folder for folder in queries]
                own = [job for job in own if not has_results(folders, job.name)]
            if processes.rank == 0:
                introduce(self.model, queries.values(), self.overlay)
                judge_pictures(segmenter, self.model, own, reading)
                notes += self._record(queries)
            notes += renamed(own)
            with counted("segmenting", processes.rank == 0) as report:
                failed, own_notes = self._segment_own(
                    segmenter, own, queries, reading, alone=len(jobs) == 1, report=report
                )
            notes += own_notes
            counts = processes.gathered((len(own), failed))
            if processes.rank > 0:
                show_notes(notes)
                return int(failed > 0)
            for folder, query in queries.items():
                notes += write_formats(self.out / folder, query.labels, formats)
            show_notes(notes)
            return self._said(len(jobs), counts, found.unread())

    def _segment_own(
        self,
        segmenter: "Segmenter",
        jobs: Sequence[Job],
        queries: Mapping[str, Query],
        reading: "Reading",
        *,
        alone: bool,
        report: Report,
    ) -> tuple[int, list[str]]:
        """Segment the pictures of this process; return how many failed, and the notes.

        alone: there is one picture in all, and what is wrong with it is raised.
        """
        from disa.inference.folder import segment_files
        from disa.inference.segmentation import Saving

        saving = Saving(self.out, self.overlay, self.saliency, self.beside, self.grey)
        workers = min(self.workers, len(jobs) // PICTURES_PER_WORKER)
        failed = 0
        notes: list[str] = []
        report(0, len(jobs))
        done = segment_files(segmenter, jobs, queries, saving, workers, reading)
        for number, (job, error, own_notes) in enumerate(done, 1):
            report(number, len(jobs), job.file.name)
            notes += own_notes
            if error is not None:
                _warn_or_raise(error, alone)
                failed += 1
        return failed, notes

    def _segment_on_ray(self, queries: Mapping[str, Query]) -> int:
        from disa.data.images import parse_reading

        _refuse(self, HERE, "is not for --on ray; --actors, --actor-gpus and --actor-cpus are")
        if not self.images or "-" in self.images:
            raise DisaError("name files, folders, globs, addresses or tables for --on ray")
        formats = parse_formats(self.format, self.tolerance)
        reading = parse_reading(self.request.max_pixels, self.bands, self.stretch)

        # Only now, because this import takes seconds.
        from disa.batch.pipeline import FAILED, segment_on_ray
        from disa.inference.segmentation import Saving
        from disa.interfaces.segment_notes import introduce, show_notes

        introduce(self.model, queries.values(), self.overlay)
        with counted("segmenting") as report:
            tally = segment_on_ray(
                self.images,
                queries,
                Saving(self.out, self.overlay, self.saliency, self.beside, self.grey),
                model=self.model,
                cluster=self.cluster,
                recursive=self.recursive,
                reading=reading,
                reserved=self._reserved(),
                report=report,
                dtype=self.dtype,
                max_memory=self.max_memory,
            )
        notes = [*tally.notes, *self._record(queries)]
        for folder, query in queries.items():
            notes += write_formats(self.out / folder, query.labels, formats)
        show_notes(notes)
        if tally.failed:
            warn(f"error: {len(tally.failed):,} pictures failed; {self.out / FAILED} says why")
        if tally.seconds:
            speed = tally.done / tally.seconds
            say(f"{speed:.2f} pictures a second on {tally.actors} actors, their start included")
        counts = [(tally.asked, len(tally.failed))]
        return self._said(tally.pictures, counts, tally.unread)

    def _reserved(self) -> Sequence[str]:
        """Return names that no result may have."""
        return (CLASSES.removesuffix(".json"),) if self.classes else ()

    def _jobs(self, files: Sequence[Path], queries: Mapping[str, Query]) -> list[Job]:
        """Prepare the folders; return each picture with the name of its results."""
        from disa.inference.result_names import result_names

        folders = [self.out / folder for folder in queries]
        for folder in folders:
            prepare_folder(folder)
        names = result_names(files, folders, self._reserved())
        return [Job(*pair) for pair in zip(files, names, strict=True)]

    def _record(self, queries: Mapping[str, Query]) -> list[str]:
        """Write what was asked for, and what label maps mean; return notes."""
        save_config(self.out / RECORD, self)
        notes = []
        for folder, query in queries.items() if self.classes else ():
            notes += _write_classes(self.out / folder, query.labels)
        return notes

    def _said(self, pictures: int, counts: Sequence[tuple[int, int]], unread: str) -> int:
        """Say how many pictures of all processes were segmented; return the exit code."""
        if unread:
            warn(f"error: {unread}")
        asked = sum(own for own, _ in counts)
        done = asked - sum(failed for _, failed in counts)
        skipped = f"; {pictures - asked} were there" if asked < pictures else ""
        if done == asked:
            plural = "" if done == 1 else "s"
            say(f"{done} picture{plural} segmented, in {self.out}{skipped}")
            return SOME_FAILED if unread else 0
        say(f"{done} of {asked} pictures segmented, in {self.out}{skipped}")
        return SOME_FAILED if done else ALL_FAILED


def _refuse(record: object, names: Iterable[str], reason: str) -> None:
    """Raise `DisaError` for the first of these options that is not at its default."""
    defaults = options(type(record))
    for name in names:
        if getattr(record, name) != defaults[name]:
            raise DisaError(f"--{name.replace('_', '-')} {reason}")


def _warn_or_raise(error: DisaError, alone: bool) -> None:
    """Say why a picture failed. Of several, the others are worth segmenting all the same."""
    if alone:
        raise error
    warn(f"error: {one_line(error)}")


def _write_classes(folder: Path, labels: Sequence[str]) -> list[str]:
    """Write which value of a label map is which label, as a data set's file of classes.

    Return a note if other labels were there before.
    """
    from disa.data.masks import ignored_value
    from disa.inference.labels import synonyms
    from disa.running.files import write_json
    from disa.running.reading import read_json

    categories = []
    for index, label in enumerate(labels):
        name, *others = synonyms(label)
        categories.append({"id": index, "name": name, "synonyms": others})
    classes = {"categories": categories, "ignored": [ignored_value(len(labels))]}
    path = folder / CLASSES
    notes = []
    there = read_json(path, "delete it") if path.is_file() else classes
    if isinstance(there, dict) and "image" in there:
        raise DisaError(f"{path}: is the result of a picture; choose another folder for --classes")
    if there != classes:
        notes.append(f"{path}: has the labels of this run now; label maps of earlier ones differ")
    write_json(path, classes)
    return notes

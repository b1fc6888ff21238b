"""Videos and cameras in, videos out: frames with their times, whatever the rate.

PyAV, FFmpeg's libraries, reads and writes files; OpenCV reads cameras.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from ssd.cli import KitError
from ssd.files import atomic

import av
import cv2
import numpy as np

H264 = "libx264"
ENCODERS = {  # the first that FFmpeg has is taken, with its options
    H264: {"preset": "superfast", "crf": "23"},
    "mpeg4": {"qscale": "3"},
}
TICKS = 60_000  # a second of a written video; MPEG-4 takes 16 bits
USUAL_RATES = range(5, 241)  # frames per second; an encoder needs one as a hint
DEFAULT_RATE = Fraction(25)
SLACK = 0.25  # seconds that a whole video may end before its stated end

Frame = tuple[np.ndarray, float]  # (H, W, 3) uint8 BGR, and seconds after the first frame


class BadFile(KitError):
    """A file that cannot be read or written; it is reported and the others are done."""


def quiet_opencv() -> None:
    """Let OpenCV write nothing to stderr by itself."""
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)  # it moved in OpenCV 5; 0 is silent


def encoder() -> str:
    """Return the name of the encoder that videos are written with."""
    return next(name for name in ENCODERS if name in av.codecs_available)


class VideoFile:
    """A video file, read once. Raises BadFile if it is none.

    rate: its frames per second on average, or a guess. count: the frames that it states, 0 if it
    states none. read: those that were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.container = av.open(str(path.absolute()))  # alone `a:b.mp4` starts with a protocol
        except (av.FFmpegError, OSError):
            raise self._unreadable() from None
        self.stream = self.container.streams.best("video")
        if self.stream is None:
            self.container.close()
            raise self._unreadable()
        self.stream.thread_type = "AUTO"
        self.rate = self.stream.average_rate or DEFAULT_RATE
        self.counted = self.container.format.name == "avi" and self.stream.frames > 0
        self.length = self._stated_length()
        self.count = self.stream.frames or round(self.length * self.rate)
        self.read, self.damaged = 0, False
        self.end = Fraction(0)  # of the last packet, seconds

    def _unreadable(self) -> BadFile:
        return BadFile(f"{self.path}: not a video that FFmpeg can read; convert or fetch it again")

    def _stated_length(self) -> Fraction:
        """Return the second at which the file says that it ends, 0 if it does not."""
        if self.counted:
            return self.stream.frames / self.rate  # of what is missing FFmpeg says nothing
        return Fraction(self.container.duration or 0, av.time_base)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, upright, all of the first one's size. Raises BadFile without any."""
        size, first = {}, None
        for frame in self._decoded():
            size = size or {"width": frame.width, "height": frame.height}
            bgr = np.rot90(frame.to_ndarray(format="bgr24", **size), frame.rotation // 90)
            seconds = self.read / self.rate if frame.pts is None else frame.pts * frame.time_base
            first = seconds if first is None else first
            self.read += 1
            yield np.ascontiguousarray(bgr), float(seconds - first)
        if not self.read:
            raise self._unreadable()

    def _packets(self) -> Iterator[av.Packet]:
        try:
            yield from self.container.demux()
        except (av.FFmpegError, OSError):
            self.damaged = True

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield what can be decoded, and note if there is more that cannot.

        What stands before the first frame may need one of a longer video that it was cut from.
        """
        for packet in self._packets():
            shown = packet.dts if packet.pts is None else packet.pts
            if shown is not None:
                self.end = max(self.end, (shown + (packet.duration or 0)) * packet.time_base)
            if packet.stream is not self.stream:
                continue
            try:
                frames = packet.decode()
            except (av.FFmpegError, OSError):
                self.damaged |= self.read > 0
            else:
                yield from frames

    def wrong(self) -> str | None:
        """Return what is wrong with the video, once all its frames are read."""
        slack = 3 / (2 * self.rate) if self.counted else SLACK
        if self.end + slack < self.length:
            return f"{self.path}: ends after {self.read} of {self.count} frames; fetch it again"
        if self.damaged:
            of = f"{self.read} of {self.count}" if self.count else str(self.read)
            return f"{self.path}: damaged: {of} frames could be read; fetch it again"
        return None

    def close(self) -> None:
        self.container.close()


class Camera:
    """A camera, whose frames never end. Raises KitError if it is not there."""

    count = read = 0

    def __init__(self, number: int) -> None:
        self.number = number
        quiet_opencv()
        self.capture = cv2.VideoCapture(number)
        if not self.capture.isOpened():
            raise KitError(f"--source {number}: no such camera; list /dev/video*, or give a file")
        self.rate = Fraction(self.capture.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames as they come. Raises KitError without any."""
        first = None
        while True:
            there, bgr = self.capture.read()
            if not there:
                break
            now = time.monotonic()
            first = now if first is None else first
            self.read += 1
            yield bgr, now - first
        if not self.read:
            raise KitError(f"--source {self.number}: no frame came; check the camera")

    def wrong(self) -> None:
        return None

    def close(self) -> None:
        self.capture.release()


class _Recorder:
    """Encodes frames into an MP4 file; every frame keeps its time."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.container = av.open(str(path), "w", format="mp4")
        self.rate = rate if round(rate) in USUAL_RATES else DEFAULT_RATE
        self.stream = None
        self.frames, self.last = 0, -1

    def write(self, bgr: np.ndarray, seconds: float) -> None:
        """Add a frame, (H, W, 3) uint8; an odd row or column is doubled, as H.264 needs pairs."""
        height, width = bgr.shape[:2]
        bgr = np.pad(bgr, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        if self.stream is None:
            self._open(bgr)
        frame = av.VideoFrame.from_ndarray(bgr, format="bgr24")
        self.last = max(self.last + 1, round(seconds * TICKS))
        frame.pts, frame.time_base = self.last, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))
        self.frames += 1

    def _open(self, bgr: np.ndarray) -> None:
        name = encoder()
        self.stream = self.container.add_stream(name, rate=self.rate, options=ENCODERS[name])
        self.stream.height, self.stream.width = bgr.shape[:2]
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, TICKS)

    def close(self) -> None:
        self.container.mux(self.stream.encode())
        self.container.close()


@contextmanager
def recording(path: Path, rate: Fraction) -> Iterator[Callable[[np.ndarray, float], None]]:
    """Give a function that adds a frame and its time to a video; whole or not at all.

    All frames have the size of the first. rate: about how many come in a second. Raises BadFile if
    the encoder refuses them, KitError if the file cannot be written.
    """
    with atomic(path) as temporary:
        try:
            recorder = _Recorder(temporary, rate)
            try:
                yield recorder.write
                recorder.close()
            finally:
                recorder.container.close()
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # the disk's, not the encoder's
                raise
            raise BadFile(f"{path}: cannot be encoded ({error.strerror}); scale it") from None
        if recorder.frames != _count_frames(temporary):
            raise KitError(f"{path}: cannot write this video; free space or choose another")


def _count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].frames

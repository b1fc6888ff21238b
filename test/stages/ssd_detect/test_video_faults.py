"""Videos of odd rates, sizes and formats, damaged ones, and those that cannot be written."""

from fractions import Fraction

from ssd.detect import video
from ssd.detect.video import VideoFile

import av
import cv2
import numpy as np
import pytest
from detecting import (
    frame_times,
    names,
    noise,
    read_video,
    write_frames,
    write_video,
)

CODECS = {"mkv": "libx264", "mp4": "libx264", "flv": "flv", "3gp": "mpeg4"}
CODECS |= {"ts": "mpeg2video", "wmv": "wmv2", "mpg": "mpeg2video"}
FIRST = {"movflags": "faststart"}  # the index, without which no MP4 file can be read


@pytest.mark.parametrize("rate", [1000, 239.983, 211.222, 23.976, 0.5])
@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
def test_any_rate_is_kept(rate, encoder, detect, images, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "ENCODERS", {encoder: video.ENCODERS[encoder]})
    write_video(images / "v.avi", [np.asarray(noise(64, 48, i)) for i in range(6)], fps=rate)
    noise(40, 30).save(images / "a.png")
    status, out, err, found = detect(images)
    assert status == 0
    assert out[-1].startswith(f"{tmp_path / 'out'}: 1 image, 6 frames, 0 bad, ")
    expected = [i / rate for i in range(6)]
    codec, times = frame_times(tmp_path / "out" / "v.avi.mp4")
    assert times == pytest.approx(expected, rel=1e-4, abs=1e-4)
    seconds = [image["seconds"] for image in found["images"][1:]]
    assert seconds == pytest.approx(expected, rel=1e-4, abs=1e-4)
    said = ["videos are MPEG-4, which browsers do not play: this FFmpeg writes no H.264"]
    assert (codec, err) == (("h264", []) if encoder == "libx264" else ("mpeg4", said))


def test_a_variable_rate_is_kept(detect, images, tmp_path):
    times = [0, 0.04, 0.5, 0.54, 2.0, 2.001]
    write_frames(images / "v.mkv", [np.asarray(noise(64, 48, i)) for i in range(6)], times)
    status, _, err, found = detect(images)
    assert status == 0 and err == []
    assert [image["seconds"] for image in found["images"]] == pytest.approx(times)
    assert frame_times(tmp_path / "out" / "v.mkv.mp4")[1] == pytest.approx(times, abs=1e-4)


@pytest.mark.parametrize("size", [(16400, 16), (16, 16400)])
def test_a_video_too_large_for_the_encoder_is_one_bad_file(size, detect, images, tmp_path):
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    write_video(images / "large.avi", [frame] * 3)
    write_video(images / "v.avi", [np.asarray(noise(64, 48))] * 3)
    status, out, err, found = detect(images)
    assert status == 1 and len(err) == 1
    assert "large.avi.mp4: cannot be encoded" in err[0] and err[0].endswith("; scale it")
    assert len(found["images"]) == 3 and names(tmp_path / "out") == ["detections.json", "v.avi.mp4"]


def test_an_image_that_its_format_cannot_take_is_one_bad_file(
    detect_stage, images, refused, tmp_path
):
    noise(65600, 8).save(images / "a.jpg", format="png")
    noise(40, 30).save(images / "b.jpg")
    refused(detect_stage(images), "a.jpg: cannot be written, 65600x8 pixels")
    assert names(tmp_path / "out") == ["b.jpg"]


@pytest.mark.parametrize("size", [(65, 49), (1, 1)])
def test_an_odd_row_or_column_is_not_lost(size, detect, images, tmp_path):
    frame = np.full((size[1], size[0], 3), 255, np.uint8)
    write_frames(images / "v.mkv", [frame] * 3)
    _, _, _, found = detect(images, "--score", "1")
    assert (found["images"][0]["width"], found["images"][0]["height"]) == size
    made, _ = read_video(tmp_path / "out" / "v.mkv.mp4")
    even = tuple(side + side % 2 for side in size)
    assert made[0].shape[1::-1] == even and made[0].min() >= 250


@pytest.mark.parametrize("suffix", CODECS)
def test_videos_of_many_formats_are_read_and_cut_ones_reported(suffix, tmp_path):
    path = tmp_path / f"v.{suffix}"
    frames = [np.asarray(noise(176, 144, i // 10)) for i in range(75)]
    write_frames(path, frames, codec=CODECS[suffix], pix_fmt="yuv420p", options=FIRST)
    video = VideoFile(path)
    read = list(video.frames())
    assert len(read) == 75 and video.wrong() is None
    assert [seconds for _, seconds in read] == pytest.approx([i / 25 for i in range(75)], abs=2e-3)
    if suffix in ("mkv", "flv", "mp4", "3gp"):  # the others do not say how long they are
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.8)])
        video = VideoFile(path)
        count = len(list(video.frames()))
        assert 50 < count < 75
        assert video.wrong() == f"{path}: ends after {count} of 75 frames; fetch it again"


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_turned_video_is_read_as_players_show_it(turn, images):
    write_frames(images / "v.mp4", [np.asarray(noise(96, 64))], codec="png", pix_fmt="rgb24")
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
    data = bytearray((images / "v.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 4 + 2 * 4
    values = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = np.array(values, ">i4").tobytes()
    (images / "v.mp4").write_bytes(data)
    (bgr, seconds), *others = VideoFile(images / "v.mp4").frames()
    assert not others and seconds == 0
    there, shown = cv2.VideoCapture(str(images / "v.mp4")).read()
    assert there and (bgr == shown).all()


def test_damaged_frames_are_counted_and_the_others_done(detect, images):
    frames = [np.asarray(noise(64, 48, i)) for i in range(20)]
    write_frames(images / "v.avi", frames, codec="png", pix_fmt="rgb24")
    data = bytearray((images / "v.avi").read_bytes())
    start = -1
    for _ in range(8):
        start = data.index(b"\x89PNG", start + 1)
    data[start : start + 4] = b"\0\0\0\0"
    (images / "v.avi").write_bytes(data)
    status, _, err, found = detect(images)
    assert status == 1 and 17 < len(found["images"]) < 20
    message = f"{images / 'v.avi'}: damaged: {len(found['images'])} of 20 frames could be read"
    assert err == [f"ssd_detect.py: error: {message}; fetch it again"]
    assert 7 / 25 not in [image["seconds"] for image in found["images"]]
    assert found["images"][-1]["seconds"] == pytest.approx(19 / 25)


def test_sound_without_a_frame_is_no_video(detect, images):
    with av.open(str(images / "v.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    status, _, err, _ = detect(images)
    assert status == 1 and len(err) == 1 and "not a video that FFmpeg can read" in err[0]


@pytest.mark.parametrize("seconds", [0, 5])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mpg", "flv"])
def test_a_late_start_and_longer_sound_are_no_faults(suffix, seconds, tmp_path):
    path = tmp_path / f"v.{suffix}"
    with av.open(str(path), "w") as container:
        image = container.add_stream("flv" if suffix == "flv" else "mpeg2video", rate=25)
        image.width, image.height, image.pix_fmt = 176, 144, "yuv420p"
        sound = container.add_stream("libmp3lame", rate=44100) if seconds else None
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(np.asarray(noise(176, 144, i)), format="bgr24")
            frame.pts, frame.time_base = i + 50, Fraction(1, 25)
            container.mux(image.encode(frame))
        container.mux(image.encode())
        for i in range(seconds):
            silence = np.zeros((2, 44100), np.float32)
            samples = av.AudioFrame.from_ndarray(silence, "fltp", "stereo")
            samples.sample_rate, samples.pts = 44100, 44100 * i
            container.mux(sound.encode(samples))
        container.mux(sound.encode() if seconds else [])
    video = VideoFile(path)
    assert len(list(video.frames())) == 25 and video.wrong() is None

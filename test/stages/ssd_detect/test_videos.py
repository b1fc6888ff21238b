"""Videos and cameras, whole, broken off and live."""

import json
import signal

import cv2
import numpy as np
import pytest
from detecting import (
    fixed,
    frame_times,
    names,
    noise,
    read_video,
    rows_of,
    write_frames,
    write_video,
)
from models import ROOT


@pytest.mark.parametrize("batch", [None, 4])
def test_a_video_gives_a_video_of_what_is_in_its_frames(
    batch, detect, light_onnx, images, tmp_path
):
    frames = [np.asarray(noise(320, 240, i)) for i in range(10)]
    write_frames(images / "一 v.mkv", frames)
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"f{i}.png"), frame)
    _, _, _, expected = detect(tmp_path / "f*.png")
    model = fixed(light_onnx, tmp_path / "fixed.onnx", batch) if batch else light_onnx
    status, out, err, found = detect(images / "一 v.mkv", "--force", model=model)
    assert status == 0 and not any("error" in line for line in err)
    assert out[-1].startswith(f"{tmp_path / 'out'}: 10 frames, 0 bad, ")
    assert rows_of(found) == rows_of(expected) != []
    entry = {"id": 10, "file_name": "一 v.mkv", "width": 320, "height": 240}
    assert found["images"][9] == entry | {"frame": 9, "seconds": 0.36}
    made, fps = read_video(tmp_path / "out" / "一 v.mkv.mp4")
    assert len(made) == 10 and fps == pytest.approx(25)
    assert frame_times(tmp_path / "out" / "一 v.mkv.mp4")[0] == "h264"
    _, _, _, expected = detect(tmp_path / "f*.png", "--force")
    for i, frame in enumerate(made):  # near the drawn image, and not the plain one
        drawn = cv2.imread(str(tmp_path / "out" / f"f{i}.png")).astype(int)
        plain = np.abs(frame - frames[i].astype(int)).mean()
        assert np.abs(frame - drawn).mean() < plain / 2


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_video_that_breaks_off_is_reported_and_kept(share, detect, images, tmp_path):
    frames = [np.asarray(noise(160, 120, i)) for i in range(60)]
    write_video(images / "v.avi", frames)
    whole = (images / "v.avi").read_bytes()
    (images / "v.avi").write_bytes(whole[: int(len(whole) * share)])
    status, _, err, found = detect(images)
    count = len(found["images"])
    assert status == 1 and 60 * share - 4 < count < 60 * share + 2
    message = f"{images / 'v.avi'}: ends after {count} of 60 frames; fetch it again"
    assert err == [f"ssd_detect.py: error: {message}"]
    assert found["info"]["bad"] == [message]
    assert len(read_video(tmp_path / "out" / "v.avi.mp4")[0]) == count


def test_a_video_without_a_frame_is_passed_over(detect, images, tmp_path):
    write_video(images / "v.avi", [np.asarray(noise(320, 240))])
    whole = (images / "v.avi").read_bytes()
    (images / "v.avi").write_bytes(whole[: whole.index(b"movi") + 4])
    noise(40, 30).save(images / "a.png")
    status, _, err, found = detect(images)
    assert status == 1 and len(found["images"]) == 1
    assert err == [
        f"ssd_detect.py: error: {images / 'v.avi'}: not a video that FFmpeg can read; "
        "convert or fetch it again"
    ]
    assert names(tmp_path / "out") == ["a.png", "detections.json"]


@pytest.fixture
def interrupted(run_stage, light_onnx, labels, tmp_path):
    """Run the stage, interrupted by signals in a run of the model; return it and its JSON."""

    def run(source, signals, number, **env):
        options = ["--model", light_onnx, "--labels", labels, "--source", source, "--json"]
        options += ["--output", tmp_path / "out"]
        script, env = "test/interrupted_detect.py", env | {"PYTHONPATH": str(ROOT)}
        done = run_stage(script, signals, number, *options, env=env)
        path = tmp_path / "out" / "detections.json"
        return done, json.loads(path.read_text()) if path.exists() else None

    return run


def test_a_camera_is_recorded_until_ctrl_c(interrupted, tmp_path):
    done, found = interrupted("0", signal.SIGINT, 5)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "Ctrl-C ends it" in done.stderr
    assert names(tmp_path / "out") == ["camera0.mp4", "detections.json"]
    assert len(found["images"]) == 5 and rows_of(found, 1) == rows_of(found, 5) != []
    _, times = frame_times(tmp_path / "out" / "camera0.mp4")
    assert times == pytest.approx([image["seconds"] for image in found["images"]], abs=1e-3)
    assert "cut" not in found["info"] and "stopped" not in found["info"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_keeps_what_was_done(name, interrupted, images, tmp_path):
    signum = signal.Signals[name]
    for i in range(4):
        noise(90, 60, i).save(images / f"{i}.png")
    write_video(images / "v.avi", [np.asarray(noise(160, 120, i)) for i in range(60)])
    write_video(images / "w.avi", [np.asarray(noise(160, 120))])
    done, found = interrupted(images, signum, 24)
    assert done.returncode == 128 + signum
    assert done.stderr == f"interrupted_detect.py: stopped by {name}; what was done is kept\n"
    cut = f"{images / 'v.avi'}: cut short after 20 of 60 frames"
    out = done.stdout.splitlines()
    assert out[-3] == cut and ": 4 images, 20 frames, 0 bad, " in out[-1]
    assert found["info"]["stopped"] == name and found["info"]["cut"] == cut
    assert len(found["images"]) == 24
    written = ["0.png", "1.png", "2.png", "3.png", "detections.json", "v.avi.mp4"]
    assert names(tmp_path / "out") == written
    assert len(read_video(tmp_path / "out" / "v.avi.mp4")[0]) == 20


def test_a_signal_among_images_keeps_those_that_are_done(interrupted, images, tmp_path):
    for i in range(9):
        noise(90, 60, i).save(images / f"{i}.png")
    done, found = interrupted(images, signal.SIGTERM, 3)
    assert done.returncode == 128 + signal.SIGTERM and done.stderr.count("\n") == 1
    assert [image["file_name"] for image in found["images"]] == ["0.png", "1.png", "2.png"]
    assert names(tmp_path / "out") == ["0.png", "1.png", "2.png", "detections.json"]


def test_a_kill_leaves_what_was_saved(interrupted, images, tmp_path):
    for i in range(9):
        noise(90, 60, i).save(images / f"{i}.png")
    done, found = interrupted(images, f"{signal.SIGKILL}", 8, SSD_SAVED_EVERY="0")
    assert done.returncode == -signal.SIGKILL
    assert found["info"]["unfinished"] and 1 <= len(found["images"]) <= 8
    written = [f"{i}.png" for i in range(len(found["images"]))]
    assert set(written) <= set(names(tmp_path / "out"))


def test_a_second_signal_leaves_no_half_file(interrupted, images, tmp_path):
    write_video(images / "v.avi", [np.asarray(noise(160, 120, i)) for i in range(60)])
    done, _ = interrupted(images, f"{signal.SIGINT},{signal.SIGTERM}", 9)
    assert done.returncode == 128 + signal.SIGTERM and done.stderr.count("\n") == 1
    assert names(tmp_path / "out") == []


def test_no_camera_is_reported(detect_stage, refused):
    refused(detect_stage("63"), "--source 63: no such camera")

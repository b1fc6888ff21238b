"""Rows on disk: whole files, nothing lost, the results of all of them."""

from ssd.cli import KitError

import pytest

pa = pytest.importorskip("pyarrow")
from ssd.scale import rows  # noqa: E402


def table(first, count, worker="host\t1\t90\tengine"):
    made = [
        {
            "path": f"/{number}.jpg",
            "image_id": number,
            "width": 640,
            "height": 480,
            "boxes": [[1.5, 2, 3, 4]] * (number % 3),
            "labels": [1] * (number % 3),
            "category_ids": [7] * (number % 3),
            "scores": [0.1] * (number % 3),
            "error": None,
        }
        for number in range(first, first + count)
    ]
    made = pa.Table.from_pylist(made, rows.SCHEMA)
    return made.append_column(rows.WORKER, pa.array([worker] * count))


def test_rows_are_written_in_files_and_numbered_on(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PART", 10)
    monkeypatch.setattr(rows.time, "time", lambda: 86.0)
    tables = [table(0, 4), table(4, 4, "host\t2\t80\tengine"), table(8, 4, "other\t1\t85\tengine")]
    facts = rows.collect([*tables, table(12, 3)], tmp_path, 15)
    assert [path.name for path in rows.part_files(tmp_path)] == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]
    assert facts["hosts"] == 2 and facts["actors"] == 3 and facts["engines"] == ["engine"]
    assert facts["images_per_second"] == 15 / (86 - 80)
    rows.collect([table(15, 1)], tmp_path, 1)
    (tmp_path / ".part-000003.parquet.tmp").write_bytes(b"half")  # of a run that was killed
    assert rows.read_parts(tmp_path) == pa.concat_tables([*tables, table(12, 4)]).select(
        rows.SCHEMA.names
    )


def test_what_came_before_an_error_is_written(tmp_path):
    def tables():
        yield table(0, 3)
        raise KitError("lost")

    with pytest.raises(KitError, match="lost"):
        rows.collect(tables(), tmp_path, 9)
    done = rows.read_parts(tmp_path, ["path"])
    assert len(done) == 3
    assert rows.without(table(1, 4), done)["path"].to_pylist() == ["/3.jpg", "/4.jpg"]


def test_results_keep_the_bits_of_boxes_and_scores():
    (result,) = rows.to_results(table(1, 1).select(rows.SCHEMA.names))
    assert result == {
        "image_id": 1,
        "category_id": 7,
        "bbox": [1.5, 2.0, 3.0, 4.0],
        "score": 0.10000000149011612,
    }


def test_a_file_that_is_none_of_rows_is_named(tmp_path):
    (tmp_path / "part-000000.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(KitError, match="part-000000.parquet: not a file of rows"):
        rows.read_parts(tmp_path)
    assert len(rows.read_parts(tmp_path / "nowhere")) == 0

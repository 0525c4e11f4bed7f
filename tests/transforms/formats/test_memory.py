"""Large inputs are listed and read within a memory that does not grow with them."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_examples import END, member, picture
from support import measured

MB = 1 << 20
_READ = """
import sys
from transforms.inputs import plan_input
from transforms.sources import read_shard

count = 0
for shard in plan_input(sys.argv[1]).shards:
    for record, load in read_shard(shard):
        load()
        count += 1
assert count == int(sys.argv[2]), count
"""


def peak_bytes(source: Path, records: int) -> int:
    """Peak memory of a process that reads all of an input."""
    code, peak = measured([sys.executable, "-c", _READ, str(source), str(records)])
    assert code == 0
    return peak


def write_parquet(path: Path, groups: int) -> None:
    """Row groups of 512 pictures of 2 MiB, which hold one PNG and much of nothing."""
    one = picture() + bytes(2 * MB)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": one, "path": f"{i}.png"} for i in range(64)], kind)
    batch = pa.record_batch([rows, pa.array(range(64))], ["image", "label"])
    with pq.ParquetWriter(path, batch.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(groups):
            writer.write_table(pa.Table.from_batches([batch] * 8), row_group_size=512)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_parquet_of_five_gigabytes(tmp_path: Path) -> None:
    peaks = []
    for groups in (1, 5):
        path = tmp_path / f"{groups}.parquet"
        write_parquet(path, groups)
        assert pq.read_metadata(path).row_group(0).total_byte_size >= 1 << 30
        peaks.append(peak_bytes(path, 512 * groups))
    assert peaks[1] < peaks[0] + 64 * MB, [f"{peak / MB:.0f} MiB" for peak in peaks]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_tar_of_two_gigabytes(tmp_path: Path) -> None:
    peaks = []
    one = picture() + bytes(2 * MB)
    for count in (64, 1024):
        path = tmp_path / f"{count}.tar"
        with path.open("wb") as file:
            for index in range(count):
                file.write(member(f"{index:06d}.png", one))
            file.write(END)
        peaks.append(peak_bytes(path, count))
        path.unlink()
    assert peaks[1] < peaks[0] + 64 * MB, [f"{peak / MB:.0f} MiB" for peak in peaks]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_folder_of_200_000_files(tmp_path: Path) -> None:
    peaks, one = [], picture()
    for count in (2_000, 200_000):
        source = tmp_path / f"{count}"
        for index in range(count):
            folder = source / f"{index // 1000:04d}"
            if index % 1000 == 0:
                folder.mkdir(parents=True)
            (folder / f"{index:06d}.png").write_bytes(one)
        peaks.append(peak_bytes(source, count))
    # the plan holds their names
    assert peaks[1] < peaks[0] + 256 * MB, [f"{peak / MB:.0f} MiB" for peak in peaks]

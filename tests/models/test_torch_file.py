"""Files of torch.save: damaged bytes, wrong types and sizes that a file does not have are refused before loading."""

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from pose.errors import CheckpointError
from pose.models import torch_file
from pose.models.torch_file import check_weights, load_torch_file

GB = 1 << 30


def refused(path: Path) -> str:
    """Return the message of a file that is refused; PyTorch must not have been asked to load it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CheckpointError) as raised:
        patch.setattr(torch_file.torch, "load", lambda *_, **__: pytest.fail("loaded"))
        load_torch_file(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    state = OrderedDict(weight=torch.arange(64.0).view(8, 8), bias=torch.ones(8, dtype=torch.float16))
    torch.save({"model": state, "config": {"name": "x"}, "step": 3}, tmp_path / "best.pt")
    return tmp_path / "best.pt"


def test_a_file_is_loaded_as_it_was_saved(file):
    content = load_torch_file(file)

    assert torch.equal(content["model"]["weight"], torch.arange(64.0).view(8, 8))
    assert content["model"]["bias"].dtype == torch.float16
    assert (content["config"], content["step"]) == ({"name": "x"}, 3)


@pytest.mark.parametrize("zipped", [True, False])
def test_views_parameters_and_shared_storages_are_loaded(zipped, tmp_path):
    base = torch.arange(24.0).view(4, 6)
    state = {"base": base, "column": base[:, 2], "turned": base.t(), "empty": torch.zeros(0, 3)}
    state["parameter"] = torch.nn.Parameter(base[1:3].clone())
    state["scalar"] = torch.tensor(30.0)
    torch.save(state, tmp_path / "state.pth", _use_new_zipfile_serialization=zipped)

    loaded = load_torch_file(tmp_path / "state.pth")

    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_every_flipped_bit_of_a_tensor_is_found(file):
    """PyTorch loads these files without an error."""
    whole = file.read_bytes()
    start = whole.index(torch.arange(64.0).numpy().tobytes())
    for position in range(start, start + 256, 13):
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            file.write_bytes(damaged)
            assert torch.load(file, weights_only=True)["step"] == 3

            assert "damaged, the checksum of 'best/data/0' in it is wrong" in refused(file)


def test_any_flipped_bit_is_refused_or_changes_nothing(file):
    whole, expected = file.read_bytes(), load_torch_file(file)
    found = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        try:
            content = load_torch_file(file)
        except CheckpointError:
            found += 1
        else:
            torch.testing.assert_close(content["model"], expected["model"], rtol=0, atol=0)
            assert (content["config"], content["step"]) == (expected["config"], expected["step"])
    assert found > 100


def rewrite(file: Path, change, compression: int = zipfile.ZIP_STORED) -> None:
    """Write the records of a file again, with correct checksums, after ``change(records)``."""
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def with_first_size(records: dict[str, bytes], rows: int, stride: int) -> None:
    """Replace size (8, 8) and stride (8, 1) of the tensor in the pickle."""
    old = pickle.dumps((8, 8), 2)[2:-1], pickle.dumps((8, 1), 2)[2:-1]
    new = pickle.dumps((rows, 8), 2)[2:-1], pickle.dumps((stride, 1), 2)[2:-1]
    name = next(name for name in records if name.endswith("data.pkl"))
    data = records[name]
    for before, after in zip(old, new, strict=True):
        before, after = before[:6].rstrip(b"q\x00"), after.partition(b"q")[0]
        assert before in data
        data = data.replace(before, after, 1)
    records[name] = data


@pytest.mark.parametrize(("rows", "stride"), [(GB, 8), (GB, 0), (9, 8), (8, 9)])
def test_a_tensor_larger_than_its_storage_is_refused(rows, stride, file):
    rewrite(file, lambda records: with_first_size(records, rows, stride))

    assert "not a readable weight file" in refused(file)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(file):
    rewrite(file, lambda records: records.update({"best/data/0": bytes(64 << 20)}), zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 100_000

    assert "not a readable weight file" in refused(file)


def test_a_record_of_another_size_than_its_tensor_is_refused(file):
    rewrite(file, lambda records: records.update({"best/data/0": bytes(252)}))

    assert "not a readable weight file" in refused(file)


def test_an_old_file_that_claims_more_than_it_has_is_refused(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"weight": torch.zeros(7777)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    assert torch.equal(load_torch_file(path)["weight"], torch.zeros(7777))

    claimed = pickle.dumps(7777, 2)[2:-1]
    path.write_bytes(whole.replace(claimed, pickle.dumps(GB, 2)[2:-1]))

    assert "not a readable weight file" in refused(path)


@pytest.mark.skipif(os.name != "posix", reason="named pipes of POSIX")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weights.pt")

    assert "no such weight file" in refused(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, dtype=torch.int32), torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.uint8),
        torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.complex64), torch.tensor([1, math.nan]),
        torch.tensor([1, math.inf]), torch.tensor([1e300], dtype=torch.float64), torch.tensor([-math.inf]).half(),
    ],
    ids=str,
)  # fmt: skip
def test_weights_that_are_not_finite_real_numbers_are_refused(value):
    with pytest.raises(CheckpointError, match=r"^x\.pt: .*'conv\.weight'"):
        check_weights({"bias": torch.ones(1), "conv.weight": value}, Path("x.pt"))


def test_a_negative_variance_is_refused():
    with pytest.raises(CheckpointError, match=r"the variance 'bn\.running_var' is negative"):
        check_weights({"bn.running_var": torch.tensor([1.0, -0.5])}, Path("x.pt"))


def test_all_types_of_real_numbers_and_the_counter_of_batch_norm_are_weights():
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    state = {str(kind): torch.ones(2, dtype=kind) for kind in types} | {"bn.num_batches_tracked": torch.tensor(3)}

    assert check_weights(state, Path("x.pt")) is state


@pytest.mark.parametrize("state", [None, [1], {"a": 1}, {3: torch.ones(1)}], ids=repr)
def test_anything_but_named_tensors_is_refused(state):
    with pytest.raises(CheckpointError, match="expected a state dict of tensors"):
        check_weights(state, Path("x.pt"))


class Code:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-weight-file",)


def test_code_is_refused_before_pytorch_reads_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"model": Code()}, buffer)
    (tmp_path / "evil.pt").write_bytes(buffer.getvalue())

    assert "UnpicklingError" in refused(tmp_path / "evil.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pt"]

"""Machines by name: the built-in ones, the user's own, what a hostile file may say, and this one."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.fit.memory.free import available_bytes, memory_bytes
from thinksmith.fit.speed import devices as module
from thinksmith.fit.speed.devices import FORMATS, devices, find_device, with_memory
from thinksmith.fit.speed.this import this_device

GIB = 2**30
MINE = """
[mine]
title = "My machine"
aliases = ["the box"]
kind = "cuda"
memory_gib = 10
reserve_gib = 1.5
bandwidth_gb_s = 500
tflops = { fp32 = 10, bf16 = 20 }
dollars_per_hour = 1.25
source = "a sticker on it"
notes = "in the cellar"
"""


@pytest.fixture(autouse=True)
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "devices.toml"
    monkeypatch.setattr(module, "user_file", lambda: path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def one_line(call: object, *args: object) -> str:
    with pytest.raises(UserError) as raised:
        call(*args)  # type: ignore[operator]
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    return str(raised.value)


def test_what_a_spark_is() -> None:
    spark = find_device("dgx-spark")
    assert spark.bandwidth == 273e9
    assert spark.unified
    assert spark.memory == pytest.approx(119.7 * GIB, abs=1)
    assert spark.flops["fp4"] == 500e12  # not the petaflop of half-empty matrices


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("spark", "dgx-spark"),
        ("NVIDIA GB10", "dgx-spark"),
        ("rtx 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("H100-80GB", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb-sxm"),
        ("M4 Max 64GB", "m4-max-64gb"),
        ("Apple M4 Max 64 GB", "m4-max-64gb"),
        ("5090", "rtx-5090"),
        ("thor", "jetson-thor"),
    ],
)
def test_names(said: str, name: str) -> None:
    assert find_device(said).name == name


def test_all_built_in_devices_make_sense() -> None:
    for name, device in devices().items():
        assert device.name == name
        assert find_device(name) == device
        assert 0 < device.usable <= device.memory
        assert device.source.startswith("https://"), name
        assert set(device.flops) <= set(FORMATS)
        rates = [device.flops[each] for each in ("fp32", "bf16", "fp8", "fp4") if each in device.flops]
        assert rates == sorted(rates), name  # narrower is never slower
        # Between a slow product and one that no machine of today has, for the bytes that it reads.
        assert 2 < rates[-1] / device.bandwidth < 5000, name


def test_no_name_means_two_devices() -> None:
    raw = tomllib.loads(files("thinksmith.fit.speed").joinpath("devices.toml").read_text(encoding="utf-8"))
    folded = [
        each for key, table in raw.items() for each in {module._folded(n) for n in (key, *table.get("aliases", []))}
    ]
    assert len(set(folded)) == len(folded), sorted(each for each in folded if folded.count(each) > 1)


def test_sizes_must_be_said() -> None:
    assert "m2-max-32gb or m2-max-64gb or m2-max-96gb" in one_line(find_device, "M2 Max")


def test_metal_gives_two_thirds_and_three_quarters() -> None:
    assert find_device("m1-16gb").usable == pytest.approx(16 * GIB * 2 / 3, rel=0.002)
    assert find_device("m2-max-64gb").usable == pytest.approx(48 * GIB)


def test_unknown_names_the_nearest() -> None:
    assert "rtx-4090" in one_line(find_device, "rtx4o90")
    assert "one device" in one_line(find_device, "2x h100")
    one_line(find_device, "")
    one_line(find_device, "x" * 100_000)


def test_the_users_own(user_file: Path) -> None:
    write(user_file, MINE + MINE.replace("[mine]", '["rtx-4090"]').replace("the box", "my 4090"))
    box = find_device("the box")
    assert (box.memory, box.reserve, box.bandwidth) == (10 * GIB, 1.5 * GIB, 500e9)
    assert (box.flops["bf16"], box.dollars_per_hour) == (20e12, 1.25)
    assert box.source == "a sticker on it; in the cellar"
    assert find_device("rtx-4090").memory == 10 * GIB  # replaced
    assert devices()["rtx-4090"].memory == 10 * GIB
    assert find_device("4090").name == "rtx-4090"
    assert find_device("rtx-3090").name == "rtx-3090"


def test_a_file_with_one_device(tmp_path: Path) -> None:
    assert find_device(str(write(tmp_path / "a.toml", MINE))).name == "mine"
    two = write(tmp_path / "b.toml", MINE + MINE.replace("[mine]", "[other]"))
    assert "2 devices" in one_line(find_device, str(two))
    assert "cannot read" in one_line(find_device, str(tmp_path / "none.toml"))
    assert "cannot read" in one_line(find_device, str(tmp_path / "folder.toml"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("memory_gib = 10", "", "lacks memory_gib"),
        ("memory_gib = 10", 'memory_gib = "10"', "memory_gib must be a number"),
        ("memory_gib = 10", "memory_gib = nan", "memory_gib must be a number"),
        ("memory_gib = 10", "memory_gib = -1", "memory_gib must be a number"),
        ("memory_gib = 10", "memory_gib = true", "memory_gib must be a number"),
        ("memory_gib = 10", "memory_gib = 1e30", "memory_gib must be a number"),
        ("memory_gib = 10", "memory_gib = [10]", "memory_gib must be a number"),
        ("memory_gib = 10", "memory_gib = " + "9" * 5000, ""),
        ("reserve_gib = 1.5", "reserve_gib = 11", "leaves nothing"),
        ("bandwidth_gb_s = 500", "bandwidth_gb_s = 0", "bandwidth_gb_s must be a number"),
        ('kind = "cuda"', 'kind = "quantum"', "kind must be one of"),
        ('kind = "cuda"', 'kind = ["cuda"]', "kind must be one of"),
        ('title = "My machine"', "title = 3", "title must be a text"),
        ("fp32 = 10", "fp31 = 10", "tflops.fp31 is not known"),
        ("fp32 = 10", "fp32 = inf", "tflops.fp32 must be a number"),
        ("{ fp32 = 10, bf16 = 20 }", "7", "tflops must be a table"),
        ('aliases = ["the box"]', 'aliases = "the box"', "aliases must be a list"),
        ("dollars_per_hour = 1.25", "dollars_per_hour = -1", "dollars_per_hour must be"),
        ("notes =", "note =", "mine.note is not known"),
        ("[mine]", "mine = 3\n[other]", "stands outside a table"),
        ("[mine]", "[mine", "is not TOML"),
        ("memory_gib = 10", "memory_gib = 10\nsizes = [0]", "sizes must be"),
        ("memory_gib = 10", "memory_gib = [10, 20]\nsizes = [8, 16, 32]", "2 figures for 3 sizes"),
    ],
)
def test_a_broken_file_is_one_line(user_file: Path, old: str, new: str, told: str) -> None:
    assert old in MINE
    write(user_file, MINE.replace(old, new))
    line = one_line(find_device, "mine")
    assert told in line
    assert str(user_file) in line


def test_a_huge_file_is_not_read(user_file: Path) -> None:
    write(user_file, "#" * 2_000_000)
    assert "no file of devices" in one_line(find_device, "mine")
    user_file.write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in one_line(find_device, "mine")
    write(user_file, "a = " + "[" * 100_000)
    one_line(find_device, "mine")


@given(st.one_of(st.text(max_size=60), st.from_regex(r"\A\s*[0-9]+ ?x\s*\w+\s*\Z")))
@settings(max_examples=60)
def test_any_name_is_a_device_or_one_line(name: str) -> None:
    if name.strip().casefold() == "this":
        return
    told = ""
    try:
        find_device(name)
    except UserError as error:
        told = str(error)
    assert len(told.splitlines()) <= 1


def test_with_memory() -> None:
    spark = with_memory(find_device("spark"), 100 * GIB)
    assert spark.usable == 100 * GIB
    for bad in (0, -1, float("nan"), 10**30, True):
        one_line(with_memory, spark, bad)


def test_this_machine() -> None:
    found = find_device("this")
    assert found.memory <= memory_bytes() or found.kind == "cuda"
    assert 0 < found.usable <= found.memory
    assert 1e8 < found.bandwidth < 1e14
    assert {"fp32", "bf16"} <= set(found.flops)
    assert found.flops["fp32"] > 1e8
    assert "measured 20" in found.source
    assert this_device().bandwidth == found.bandwidth  # measured once
    if found.kind == "cpu":
        assert found.usable == pytest.approx(available_bytes(), rel=0.3)


def test_what_others_use_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinksmith.fit.speed.this.available_bytes", lambda: 3 * GIB)
    monkeypatch.setattr("thinksmith.fit.speed.this.memory_bytes", lambda: 64 * GIB)
    found = this_device()
    if found.kind == "cpu":
        assert found.memory == 64 * GIB
        assert 3 * GIB <= found.usable < 5 * GIB  # what this process holds is free when it ends

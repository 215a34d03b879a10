"""What is told of processor, memory and GPUs: from trees of files as kernels write them, and a driver's programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.health import gpus, memory, processor, torch_build
from thinksmith.health.finding import Finding, problems
from thinksmith.health.gpus import Gpu, Graphics
from thinksmith.health.processor import Processor
from thinksmith.health.quota import quota
from thinksmith.health.torch_build import Build

GIB = 2**30
CPU = Processor("a processor", "x86_64", cores=8, allowed=8)


def tree(root: Path, **files: str) -> Path:
    """A root folder with files; a name's `__` is a slash and `_dot_` a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def named(found: list[Finding], name: str) -> Finding:
    (one,) = [finding for finding in found if finding.name == name]
    return one


# Processor

V2 = "42 32 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
DOCKER_V1 = "35 31 0:31 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"mountinfo": V2, "cgroup": "0::/\n", "cpu_dot_max": "max 100000\n"}, None),
        ({"mountinfo": V2, "cgroup": "0::/\n", "cpu_dot_max": "250000 100000\n"}, 2.5),
        (
            {
                "mountinfo": V2,
                "cgroup": "0::/a/b\n",
                "a__b__cpu_dot_max": "max 100000",
                "a__cpu_dot_max": "50000 50000",
            },
            1,
        ),
        (
            {
                "mountinfo": V2,
                "cgroup": "0::/a/b\n",
                "a__b__cpu_dot_max": "300000 100000",
                "a__cpu_dot_max": "400000 100000",
            },
            3,
        ),
        ({"mountinfo": V2, "cgroup": "0::/../../elsewhere\n", "cpu_dot_max": "150000 100000"}, 1.5),
        ({"mountinfo": V2, "cgroup": "0::/\n", "cpu_dot_max": "0 0"}, None),
        ({"mountinfo": V2, "cgroup": "0::/\n", "cpu_dot_max": "9" * 5000 + " 1"}, None),
        ({"mountinfo": V2, "cgroup": "0::/\n", "cpu_dot_max": "nonsense"}, None),
        ({"mountinfo": "x - \n - cgroup2\n", "cgroup": "\n:\n0\n"}, None),
    ],
)
def test_the_quota_of_version_2(tmp_path, files, cores):
    places = {"mountinfo": "proc__self__mountinfo", "cgroup": "proc__self__cgroup"}
    tree(tmp_path, **{places.get(name, f"sys__fs__cgroup__{name}"): text for name, text in files.items()})
    assert quota(tmp_path) == cores


@pytest.mark.parametrize(
    ("mounted", "told", "folder"),
    [
        (V1, "5:cpu,cpuacct:/\n1:name=systemd:/\n", "cpu,cpuacct"),
        (V1, "5:cpu,cpuacct:/system.slice/x\n", "cpu,cpuacct/system.slice/x"),
        (V1, "5:cpu,cpuacct:/system.slice/x\n", "cpu,cpuacct/system.slice"),
        (DOCKER_V1, "5:cpu:/docker/abc\n", "cpu"),  # the container sees its group as the top
        (DOCKER_V1, "5:cpu:/docker/abc/inner\n", "cpu/inner"),
        (DOCKER_V1, "5:cpu:/\n", "cpu"),
    ],
)
def test_the_quota_of_version_1(tmp_path, mounted, told, folder):
    tree(tmp_path, proc__self__mountinfo=mounted, proc__self__cgroup=told)
    group = tmp_path / "sys/fs/cgroup" / folder
    group.mkdir(parents=True)
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert quota(tmp_path) is None
    (group / "cpu.cfs_quota_us").write_text("150000\n")
    assert quota(tmp_path) == 1.5


@pytest.mark.parametrize(
    ("cpuinfo", "model", "shown"),
    [
        (
            "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t\t: fpu avx2 avx512f avx512_bf16\n",
            "AMD EPYC 9B14",
            "avx2",
        ),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm sve2\nCPU part\t: 0xd85\n", None, "sve2, i8mm, bf16, asimd"),
        ("model name\t: evil\x1b[2J\x00 name\n", "evil [2J name", None),
        ("", None, None),
    ],
)
def test_the_processor(tmp_path, cpuinfo, model, shown):
    found = processor.processor(tree(tmp_path, proc__cpuinfo=cpuinfo))
    line = named(processor.findings(found, threads=1), "processor")
    assert line.value.isprintable()
    if model:
        assert found.model == model
    if shown:
        assert shown in line.value


def test_this_processor_is_the_one_that_the_system_names():
    said = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    found = processor.processor()
    assert found.allowed == int(subprocess.run(["nproc"], capture_output=True, text=True, env={}).stdout)
    if model := re.search(r"^Model name:\s+(.*)$", said, flags=re.MULTILINE):
        assert found.model == model[1].strip()
    assert found.cores == os.cpu_count()


@pytest.mark.parametrize(
    ("granted", "allowed", "threads", "remedy"),
    [
        (None, 8, 8, ""),
        (None, 4, 8, "OMP_NUM_THREADS=4"),
        (2.5, 8, 8, "OMP_NUM_THREADS=2"),
        (0.5, 8, 2, "=1"),
        (0.5, 8, 1, ""),
    ],
)
def test_more_threads_than_cores_are_noted(granted, allowed, threads, remedy):
    line = named(processor.findings(Processor("p", "m", 8, allowed, granted), threads), "cores")
    assert line.status == ("note" if remedy else "ok")
    assert remedy in line.remedy
    assert bool(remedy) == bool(line.remedy)


# Memory

MEMINFO = """MemTotal:       32000000 kB
MemFree:         1000000 kB
MemAvailable:   {available} kB
SwapTotal:       8000000 kB
SwapFree:        {swap_free} kB
HugePages_Total:       {huge}
Hugepagesize:       2048 kB
Hugetlb:        {hugetlb} kB
"""


def meminfo(root: Path, available: int = 20_000_000, swap_free: int = 8_000_000, huge: int = 0) -> Path:
    text = MEMINFO.format(available=available, swap_free=swap_free, huge=huge, hugetlb=huge * 2048)
    return tree(root, proc__meminfo=text)


def test_memory_is_told_in_the_kernels_figures(tmp_path):
    root = tree(meminfo(tmp_path), sys__kernel__mm__transparent_hugepage__enabled="always [madvise] never\n")
    found = memory.memory(root)
    assert (found.machine, found.total, found.available) == (32_000_000 * 1024, 32_000_000 * 1024, 20_000_000 * 1024)
    listed = memory.findings(found)
    assert [finding.status for finding in listed] == ["ok"] * 3
    assert named(listed, "free").value == "19.1 GiB of 30.5 GiB"
    assert named(listed, "swap").value == "0.0 GiB of 7.6 GiB used"
    assert named(listed, "huge pages").value == "made by the kernel: madvise"


def test_little_memory_is_a_problem(tmp_path):
    root = meminfo(tmp_path, available=1_000_000)
    assert not problems(memory.findings(memory.memory(root), little=10**9))
    (problem,) = problems(memory.findings(memory.memory(root)))
    assert (problem.name, problem.value) == ("free", "1.0 GiB of 30.5 GiB")
    assert "stop other programs" in problem.remedy


def test_a_container_that_grants_little_is_told_from_a_machine_that_has_little(tmp_path):
    root = tree(
        meminfo(tmp_path),
        proc__self__mountinfo=V2,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memory_dot_max=f"{2 * GIB}\n",
        sys__fs__cgroup__memory_dot_current=f"{3 * GIB // 2}\n",
    )
    listed = memory.findings(memory.memory(root))
    assert named(listed, "container").value == "grants 2.0 GiB of the machine's 30.5 GiB"
    (problem,) = problems(listed)
    assert problem.value == "0.5 GiB of 2.0 GiB"
    assert "docker run --memory" in problem.remedy


def test_swapping_and_reserved_pages_are_noted(tmp_path):
    listed = memory.findings(memory.memory(meminfo(tmp_path, swap_free=1_000_000, huge=4096)))
    assert named(listed, "swap").status == named(listed, "huge pages").status == "note"
    assert named(listed, "swap").value == "6.7 GiB of 7.6 GiB used"
    assert "8.0 GiB reserved" in named(listed, "huge pages").value


@pytest.mark.parametrize("text", ["", "MemTotal\n", "MemTotal: lots kB\nMemAvailable: -5 kB\n", "\x00" * 100])
def test_a_kernel_that_writes_nonsense_is_survived(tmp_path, text):
    found = memory.memory(tree(tmp_path, proc__meminfo=text))
    assert found.total > 0
    memory.findings(found)


# GPUs

H200 = "0, GPU-1, NVIDIA H200, 143771, 140000, 9.0, 570.172.08"
SPARK = "0, GPU-1, NVIDIA GB10, [N/A], [N/A], 12.1, 580.126.09"
PROCESSES = "GPU-1, 4711, /usr/bin/python3, 2048\nGPU-1, 4712, [Not Found], [N/A]"


def driver(folder: Path, listed: str, processes: str = "", code: int = 0) -> str:
    """A program that answers as nvidia-smi does."""
    path = folder / "nvidia-smi"
    path.write_text(
        f"#!/bin/sh\ncase \"$1\" in\n--query-gpu=*) cat <<'END'\n{listed}\nEND\n;;\n"
        f"--query-compute-apps=*) cat <<'END'\n{processes}\nEND\n;;\nesac\nexit {code}\n"
    )
    path.chmod(0o755)
    return str(path)


def loaded(root: Path) -> Path:
    version = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.172.08  Tue Jul  8 18:52:40 UTC 2025\nGCC version: 12\n"
    )
    return tree(root, proc__driver__nvidia__version=version)


def test_a_gpu_with_memory_of_its_own(tmp_path):
    found = gpus.graphics(loaded(tmp_path), driver(tmp_path, H200, PROCESSES), "no-such-library.so")
    assert found == Graphics(
        "570.172.08",
        None,
        (Gpu("NVIDIA H200", 143771 * 2**20, 140000 * 2**20, (9, 0), ("python3 4711 (2.0 GiB)", "[Not Found] 4712")),),
    )
    card, version = gpus.findings(found)
    assert card.value == (
        "NVIDIA H200, 136.7 GiB of 140.4 GiB free, compute capability 9.0; "
        "also used by python3 4711 (2.0 GiB), [Not Found] 4712"
    )
    assert (card.name, card.status) == ("GPU 0", "ok")
    assert version.value == "NVIDIA 570.172.08"


def test_a_gpu_that_others_fill_is_noted():
    (card,) = gpus.findings(Graphics("", None, (Gpu("G", 10 * GIB, GIB // 2),)))
    assert card.status == "note"
    assert card.remedy


def test_a_gpu_that_shares_its_memory(tmp_path):
    found = gpus.graphics(tmp_path, driver(tmp_path, SPARK), "no-such-library.so")
    assert found.gpus == (Gpu("NVIDIA GB10", None, None, (12, 1)),)
    assert "memory shared with the CPU" in gpus.findings(found)[0].value
    known = Graphics("1.0", None, (Gpu("iGPU", 8 * GIB, 4 * GIB), Gpu("dGPU", 8 * GIB, 4 * GIB)))
    shared, own, _ = gpus.findings(known, unified={"iGPU"})
    assert "shared with the CPU" in shared.value
    assert "shared" not in own.value


def test_a_driver_that_is_loaded_and_cannot_be_asked_is_a_problem(tmp_path):
    assert gpus.findings(gpus.graphics(tmp_path, str(tmp_path / "nothing"))) == [Finding("machine", "GPU", "none")]
    root = loaded(tmp_path)
    for program in (str(tmp_path / "nothing"), driver(tmp_path, "Failed to initialize NVML: Driver mismatch", code=18)):
        (problem,) = gpus.findings(gpus.graphics(root, program, "no-such-library.so"))
        assert problem.status == "problem"
        assert "570.172.08 is loaded" in problem.value
        assert problem.remedy


@pytest.mark.parametrize("listed", ["", "a,b", ",,,,,,", "0, u, x\x1b[2J, 99999999999999999, -5, 1e9.0, v\x00"])
def test_a_driver_that_writes_nonsense_is_survived(tmp_path, listed):
    for finding in gpus.findings(gpus.graphics(tmp_path, driver(tmp_path, listed), "no-such-library.so")):
        assert finding.value.isprintable()


def test_the_newest_cuda_is_what_the_drivers_library_says(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler to make a library that answers as the driver's")
    library = tmp_path / "libcuda.so.1"
    (tmp_path / "cuda.c").write_text("int cuDriverGetVersion(int *version) { *version = 12080; return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    found = gpus.graphics(loaded(tmp_path), driver(tmp_path, H200), str(library))
    assert found.cuda == (12, 8)
    assert gpus.findings(found)[-1].value == "NVIDIA 570.172.08, runs CUDA up to 12.8"


# torch

CARD = Graphics("570.172.08", (12, 8), (Gpu("NVIDIA H200", GIB, GIB, (9, 0)),))
CUDA = Build("2.13.0+cu128", cuda="12.8", architectures=("sm_80", "sm_90"), usable=True, bf16=True)


def told(build: Build, graphics: Graphics = CARD, cpu: Processor = CPU) -> list[Finding]:
    return torch_build.findings(build, graphics, cpu)


def test_a_build_that_suits_is_well():
    assert not problems(told(CUDA))
    assert named(told(CUDA), "PyTorch").value == "2.13.0+cu128, built for CUDA 12.8"
    assert not problems(told(Build("2.13.0+cpu"), Graphics()))
    assert not problems(told(Build("2.13.0", rocm="6.4", usable=True), Graphics()))


def test_a_build_for_cpus_beside_a_gpu_is_a_problem():
    (problem,) = problems(told(Build("2.13.0+cpu")))
    assert problem.value == "2.13.0+cpu, built for CPU, which cannot use NVIDIA H200"
    assert problem.remedy.startswith("pip install --force-reinstall 'torch")
    (problem,) = problems(told(Build("2.13.0"), cpu=Processor("p", "aarch64", 8, 8)))
    assert "pip install" not in problem.remedy  # there pip may find the one for CPUs again
    assert "aarch64" in problem.remedy


@pytest.mark.parametrize(
    ("cuda", "newest", "ill"), [("13.0", (12, 8), True), ("12.9", (12, 4), False), ("12.8", None, False)]
)
def test_a_driver_that_is_too_old_is_a_problem(cuda, newest, ill):
    """Within a major version older drivers do (CUDA Compatibility, "Minor Version Compatibility")."""
    build = Build("2.13.0", cuda=cuda, architectures=("sm_90",), usable=True)
    assert bool(problems(told(build, Graphics("550", newest, CARD.gpus)))) == ill


def test_a_gpu_that_torch_does_not_find_is_a_problem():
    (problem,) = problems(told(Build("2.13.0", cuda="12.8", architectures=("sm_90",))))
    assert "CUDA_VISIBLE_DEVICES" in problem.remedy


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (("sm_80", "sm_90"), (9, 0), True),
        (("sm_80",), (8, 9), True),
        (("sm_86",), (8, 0), False),  # no machine code for less than it was made for
        (("sm_80",), (9, 0), False),
        (("sm_80", "compute_80"), (9, 0), True),  # compiled on the spot
        (("compute_90",), (8, 0), False),
        (("sm_120",), (12, 1), True),  # DGX Spark
        (("sm_90a",), (9, 0), True),
        (("sm_100a",), (10, 3), False),  # of this very chip only
        (("sm_100f",), (10, 3), True),  # of its family
        (("sm_75", "nonsense"), (6, 1), False),
        ((), (9, 0), True),  # it does not say
    ],
)
def test_torch_has_code_for_the_gpu_or_that_is_a_problem(architectures, capability, runs):
    build = Build("2.13.0", cuda="12.8", architectures=architectures, usable=True)
    ill = problems(told(build, Graphics("570", (12, 8), (Gpu("G", capability=capability),))))
    assert [problem.name for problem in ill] == ([] if runs else ["GPU 0"])


@given(st.integers(3, 15), st.integers(0, 9), st.integers(0, 12), st.integers(0, 9))
def test_code_that_is_compiled_on_the_spot_runs_on_every_later_gpu(major, minor, more_major, more_minor):
    gpu = Gpu("G", capability=(major + more_major, (minor if not more_major else 0) + more_minor))
    build = Build("2", cuda="12.8", architectures=(f"compute_{major}{minor}",), usable=True)
    assert not problems(told(build, Graphics("570", (12, 8), (gpu,))))


def test_this_torch_is_told_as_it_is():
    import torch

    found = torch_build.build()
    assert (found.version, found.threads) == (torch.__version__, torch.get_num_threads())
    assert found.usable == torch.cuda.is_available()
    assert named(told(found, Graphics()), "PyTorch").value.startswith(torch.__version__)


@pytest.mark.parametrize(
    ("flag", "words"), [("avx512_bf16", "multiplied"), ("bf16", "multiplied"), ("avx2", "emulated")]
)
def test_bfloat16_by_the_processors_flags(flag, words):
    cpu = Processor("p", "m", 1, 1, None, frozenset({flag}))
    assert named(told(Build("2"), Graphics(), cpu), "bfloat16").value == f"{words} by the CPU"

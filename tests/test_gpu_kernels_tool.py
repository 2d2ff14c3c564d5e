"""The comparison of GPU kernels before and after a change: a difference in PTX is found and named."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parent.parent / "tools" / "gpu_kernels.py"
BEFORE = """.visible .entry kernel(
\t.param .u64 kernel_param_0
)
{
\t.reg .b32 \t%r<3>;
\tld.param.b64 \t%rd1, [kernel_param_0];
\t@%p1 bra \t$L__BB0_2;
\tst.global.b32 \t[%rd1], %r1;
$L__BB0_2:
\tret;
}
"""


def compare(before: Path, after: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, "compare", before, after, "--opcodes-only"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_opcodes_are_compared_and_names_are_not(tmp_path):
    before, same, other = (tmp_path / name / "sm_90" for name in ("before", "same", "other"))
    for place, text in (
        (before, BEFORE),
        (same, BEFORE.replace("%r1", "%r2").replace("BB0_2", "BB0_9")),
        (other, BEFORE.replace("st.global.b32", "st.global.v2.b32").replace("ret;", "ret;\n\tret;")),
    ):
        place.mkdir(parents=True)
        (place / "kernel.ptx").write_text(text)
    done = compare(before.parent, same.parent)
    assert done.returncode == 0, done.stderr
    assert "1 kernels in both, 1 with the same opcodes in order, 0 differ in something" in done.stdout
    done = compare(before.parent, other.parent)
    assert done.returncode == 1
    assert "4 -> 5 opcodes (-1 st.global.b32, +1 st.global.v2.b32, +1 ret)" in done.stdout

"""Every attack fails, its benign twin passes, and afterwards nothing is left: no process, file or connection."""

import os
import secrets
import socket
import time
from pathlib import Path

import pytest
from forgeries import FORGERIES, RIGHT, SQUARE
from harms import HARMS

from boostlib import sandbox
from boostlib.sandbox import POOL

pytestmark = pytest.mark.skipif(sandbox.level() != "kernel", reason="this machine grants no namespaces")


def family(pid: int) -> list[int]:
    """All descendants of a process."""
    try:
        own = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return own + [p for child in own for p in family(child)]


def leftovers() -> list[int]:
    """Processes below the idle helpers, beside each one's server, which waits for the next check."""
    return [p for helper in POOL.idle for p in family(helper.process.pid)[1:]]


PLACES = [Path(p) for p in ("/tmp", "/dev/shm", "/var/tmp", "/etc", "/root") if os.access(p, os.R_OK)]


def ours() -> set[str]:
    return {str(f) for place in PLACES for f in place.iterdir() if "boostlib" in f.name}


@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.mark.parametrize("name, forgery, twin, tests", FORGERIES, ids=[a[0] for a in FORGERIES])
def test_a_wrong_program_cannot_forge_a_pass(name, forgery, twin, tests):
    secret = "secret-" + secrets.token_hex(4)
    setup = "expected = int('49')\ndef same(a, b): return a == b" if "setup" in name else ""
    hidden = [t.replace("SECRET", secret) for t in tests or SQUARE]
    verdict = sandbox.check(forgery, hidden, setup, timeout=0.5)
    assert verdict.status in ("fail", "timeout") or not verdict.verified, verdict
    assert leftovers() == []
    known = [t.replace("SECRET", "secret-12345678") for t in tests or SQUARE]
    assert sandbox.check(twin, known, setup).status == "pass"


@pytest.mark.parametrize("name, harm, twin", HARMS, ids=[a[0] for a in HARMS])
def test_a_harmful_program_changes_nothing(name, harm, twin, tmp_path, listener):
    marker, kept = tmp_path / "marker", tmp_path / "marker-kept"
    kept.touch()
    before, host, clock = ours(), socket.gethostname(), time.time()
    program = harm.replace("MARKER", str(marker)).replace("PORT", str(listener.getsockname()[1]))
    verdict = sandbox.check(program, SQUARE, timeout=0.5)
    spent = time.time() - clock
    assert verdict.status in ("pass", "fail", "timeout"), verdict
    assert leftovers() == []
    assert not marker.exists() and kept.exists() and ours() == before
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert socket.gethostname() == host and 0 <= spent < 30
    assert sandbox.check(twin, SQUARE).status == "pass"


def test_a_child_of_the_candidate_is_dead_when_the_verdict_comes(tmp_path):
    alive = tmp_path / "alive"
    program = f"import os, time\nif os.fork() == 0:\n    time.sleep(0.3)\n    open({str(alive)!r}, 'w')\n" + RIGHT
    assert sandbox.check(program, SQUARE).status == "pass"
    time.sleep(0.4)
    assert not alive.exists() and leftovers() == []


SEES = """
import ctypes, os, socket, sys
def f():
    found = []
    def may(what, do):
        try: do()
        except Exception: return
        found.append(what)
    if os.getpid() != 1 or os.getppid() != 0: found.append("other processes")
    if os.getuid() == 0 or os.geteuid() == 0: found.append("root")
    if os.environ: found.append("environment")
    if os.getcwd() != "/tmp" or os.listdir("/tmp"): found.append("the host's /tmp")
    if os.path.exists("/proc") or os.path.exists("/sys"): found.append("/proc")
    for place in ("/home", "/etc", "/work", "/data", "/usr/bin", "/bin", "/var", "/mnt"):
        if os.path.isdir(place): found.append(place)
    for path in OUTSIDE:
        if os.path.exists(path): found.append(path)
    may("write /", lambda: open("/x", "w"))
    may("write library", lambda: open(os.path.join(os.path.dirname(os.__file__), "x"), "w"))
    may("internet socket", lambda: socket.socket())
    may("raw socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    may("netlink", lambda: socket.socket(socket.AF_NETLINK))
    may("setuid", lambda: os.setuid(0))
    may("chroot", lambda: os.chroot("/tmp"))
    may("mknod", lambda: os.mknod("/tmp/d", 0o60600, os.makedev(254, 0)))
    may("reading stdin", lambda: 1 / len(sys.stdin.read()))
    libc = ctypes.CDLL(None, use_errno=True)
    for name, args in (("unshare", (0x10000000,)), ("mount", (b"x", b"/tmp", b"tmpfs", 0, None)), ("ptrace", (0, 0, 0, 0)),
                       ("umount2", (b"/tmp", 2)), ("setns", (3, 0)), ("syscall", (250, 0, -3, 1)), ("syscall", (425, 8, None))):
        if getattr(libc, name)(*args) >= 0: found.append(name + str(args))
    open_files = []
    for fd in range(3, 64):
        try: os.fstat(fd); open_files.append(fd)
        except OSError: pass
    if open_files != [3]: found.append(f"descriptors {open_files}")
    if any("boostlib" in p or "site-packages" in p for p in sys.path): found.append("path")
    return found
"""


def test_the_candidate_sees_nothing_of_the_host(tmp_path):
    """Its own channel, the standard library and an empty folder; told apart by a value that must be []."""
    (tmp_path / "data").touch()
    outside = [str(tmp_path), str(Path.home()), str(Path.cwd()), os.environ.get("BOOSTLIB_DATA", "/var/lib")]
    library = os.path.realpath(os.__file__)
    outside = [p for p in outside if not library.startswith(p + "/")] + [str(Path.cwd() / "pyproject.toml")]
    program = SEES.replace("OUTSIDE", repr(outside))
    got = sandbox.check(program, ["found = f()\nassert not found, found"])
    assert got.status == "pass", got


def test_no_check_sees_what_an_earlier_one_left():
    first = "import builtins, sys\nbuiltins.kept = 1\nsys.kept = 1\nopen('/tmp/kept', 'w').write('x')\n" + RIGHT
    second = "import builtins, os, sys\ndef f():\n    return [hasattr(builtins, 'kept'), hasattr(sys, 'kept'), os.listdir('/tmp')]"
    assert sandbox.check(first, SQUARE).status == "pass"
    assert sandbox.check(second, ["assert f() == [False, False, []]"]).status == "pass"

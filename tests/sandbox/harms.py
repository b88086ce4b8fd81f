"""Programs that want to harm the machine or outlive their check, each with a benign twin of the same means.

MARKER stands for a file outside the sandbox, PORT for a listening port of this machine. Their verdict does not
matter as long as it is no error; what must hold afterwards is in test_attacks.py. Not covered: forgeries.py.
"""

RIGHT = "def f(x):\n    return x * x\n"

HARMS = [
    ("write_a_file_outside", "for p in ('MARKER', '/etc/boostlib', '/root/boostlib', '/var/tmp/boostlib', '/dev/shm/boostlib'):\n"
     "    try: open(p, 'w').write('x')\n    except OSError: pass\n" + RIGHT,
     "open('note.txt', 'w').write('x')\nassert open('/tmp/note.txt').read() == 'x'\n" + RIGHT),
    ("run_a_shell", "import posix, os, subprocess\nposix.system('touch MARKER')\nos.popen('touch MARKER').read()\n"
     "try: subprocess.run(['touch', 'MARKER'])\nexcept OSError: pass\n" + RIGHT, "import os, subprocess\n" + RIGHT),
    ("run_python", "import sys, os\nos.execv(sys.executable, [sys.executable, '-c', 'open(\"MARKER\", \"w\")'])\n" + RIGHT,
     "import sys\nassert sys.executable\n" + RIGHT),
    ("execute_from_memory", "import os\nfd = os.memfd_create('x')\nos.write(fd, b'#!/bin/sh\\ntouch MARKER\\n')\n"
     "os.execve(fd, ['x'], {})", "import io\nio.BytesIO(b'x')\n" + RIGHT),
    ("connect", "import socket\ntry: socket.create_connection(('127.0.0.1', PORT), 0.2).send(b'x')\nexcept OSError: pass\n"
     "try: socket.create_connection(('8.8.8.8', 53), 0.2)\nexcept OSError: pass\n" + RIGHT,
     "import socket\na, b = socket.socketpair()\na.send(b'x')\nassert b.recv(1) == b'x'\n" + RIGHT),
    ("connect_without_the_module", "import ctypes, struct\nlibc = ctypes.CDLL(None)\ns = libc.socket(2, 1, 0)\n"
     "a = struct.pack('!HHI8x', 2, PORT, 0x7f000001)\na = struct.pack('=H', 2) + a[2:]\nlibc.connect(s, a, 16)\nlibc.send(s, b'x', 1, 0)\n"
     + RIGHT, "import ctypes\n" + RIGHT),
    ("abstract_socket", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0boostlib-attack')\ns.listen()\n" + RIGHT,
     "import socket\nsocket.socket(socket.AF_UNIX).close()\n" + RIGHT),
    ("child_outlives_the_verdict", "import os, time\nif os.fork() == 0:\n    time.sleep(0.5)\n    open('MARKER', 'w')\n    time.sleep(60)\n" + RIGHT,
     "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\n" + RIGHT),
    ("child_in_a_new_session", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.setsid()\n"
     "        time.sleep(60)\n    os._exit(0)\n" + RIGHT, "import os\nos.getsid(0)\n" + RIGHT),
    ("child_ignores_signals", "import os, signal, time\nif os.fork() == 0:\n    for s in range(1, 65):\n"
     "        try: signal.signal(s, signal.SIG_IGN)\n        except (OSError, ValueError): pass\n    while True: pass\n" + RIGHT,
     "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + RIGHT),
    ("fork_bomb", "import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: pass",
     "import os\nfor _ in range(3):\n    pid = os.fork()\n    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)\n" + RIGHT),
    ("thread_storm", "import threading, time\ndef f(x):\n    for _ in range(10000):\n"
     "        try: threading.Thread(target=time.sleep, args=(60,)).start()\n        except RuntimeError: break\n    return x * x",
     "import threading\nts = [threading.Thread(target=int) for _ in range(8)]\nfor t in ts: t.start()\nfor t in ts: t.join()\n" + RIGHT),
    ("process_pool", "import multiprocessing as m\ndef f(x):\n    with m.get_context('fork').Pool(4) as p: return p.map(abs, [x])",
     "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    with ThreadPoolExecutor(2) as p: return sum(p.map(int, [x * x]))"),
    ("kill_everyone", "import os, signal\nfor p in [0, -1, os.getppid(), 1] + list(range(2, 500)):\n    try: os.kill(p, signal.SIGKILL)\n"
     "    except OSError: pass\n" + RIGHT, "import os\nos.kill(os.getpid(), 0)\n" + RIGHT),
    ("stop_the_parent", "import os, signal\ntry: os.kill(os.getppid(), signal.SIGSTOP)\nexcept OSError: pass\ntry: os.killpg(0, signal.SIGSTOP)\n"
     "except OSError: pass\n" + RIGHT, "import os\nos.getppid()\n" + RIGHT),
    ("sleep_forever", "import time\ndef f(x): time.sleep(1e6)", "import time\ndef f(x):\n    time.sleep(0.001)\n    return x * x"),
    ("block_on_input", "def f(x):\n    import sys\n    return sys.stdin.read(1) or input()",
     "import sys\ndef f(x): return x * x if sys.stdin.read() == '' else 0"),
    ("much_output", "import os\ndef f(x):\n    for _ in range(50): print('x' * 1000000)\n    for _ in range(50): os.write(2, b'x' * 1000000)\n"
     "    return x * x", "print('some output')\n" + RIGHT),
    ("unbounded_output", "def f(x):\n    while True: print('x' * 4096)", "def f(x):\n    print(x)\n    return x * x"),
    ("much_memory", "def f(x):\n    a = bytearray(4 << 30)\n    return len(a)", "def f(x):\n    a = bytearray(64 << 20)\n    return x * x"),
    ("memory_by_children", "import os\nfor _ in range(6): os.fork()\na = bytearray(400 << 20)\n" + RIGHT,
     "a = [0] * 100000\n" + RIGHT),
    ("huge_number", "def f(x): return 10 ** 10 ** 10", "def f(x): return x * x * 10 ** 5000 // 10 ** 5000"),
    ("huge_number_returned", "def f(x): return 1 << 100_000_000", "def f(x): return ((x * x) << 1000) >> 1000"),
    ("huge_list_returned", "def f(x): return [0] * 10_000_000", "def f(x): return ([x * x] * 1000)[0]"),
    ("huge_message_of_an_exception", "def f(x): raise ValueError('x' * 100_000_000)",
     "def f(x):\n    try: raise ValueError('x')\n    except ValueError: return x * x"),
    ("fill_the_disk", "def f(x):\n    with open('/tmp/big', 'wb') as h:\n        while True: h.write(b'x' * 1000000)",
     "open('/tmp/small', 'wb').write(b'x' * 1000000)\n" + RIGHT),
    ("a_million_files", "def f(x):\n    for i in range(10 ** 6): open(f'/tmp/{i}', 'w').close()\n    return x * x",
     "for i in range(100): open(f'/tmp/{i}', 'w').close()\n" + RIGHT),
    ("deep_folders", "import os\ndef f(x):\n    while True:\n        os.mkdir('d')\n        os.chdir('d')",
     "import os\nos.makedirs('/tmp/a/b/c')\n" + RIGHT),
    ("symlink_out", "import os\nfor t in ('MARKER', '/etc/passwd', '/proc/1/root'):\n    os.symlink(t, 'link')\n"
     "    try: open('link', 'a').write('x')\n    except OSError: pass\n    os.remove('link')\n" + RIGHT,
     "import os\nos.symlink('a', 'b')\nopen('b', 'w').close()\nassert os.path.exists('a')\n" + RIGHT),
    ("destroy", "import os, shutil, glob\nfor p in ('/', '/usr', '/root', '/home', '/tmp', 'MARKER-kept'):\n    shutil.rmtree(p, ignore_errors=True)\n"
     "    for g in (os.remove, os.rmdir):\n        try: g(p)\n        except OSError: pass\n"
     "for p in glob.glob('/**/*.py', recursive=True)[:50]:\n    try: os.remove(p)\n    except OSError: pass\n" + RIGHT,
     "import os, shutil\nos.mkdir('d')\nshutil.rmtree('d')\n" + RIGHT),
    ("change_the_library", "import json, os\nfor n in (json.__file__, os.__file__):\n    try: open(n, 'w').write('')\n    except OSError: pass\n"
     "    try: os.chmod(n, 0o777)\n    except OSError: pass\n" + RIGHT, "import json\nassert open(json.__file__).read()\n" + RIGHT),
    ("change_the_clock", "import time\ntry: time.clock_settime(time.CLOCK_REALTIME, 0)\nexcept OSError: pass\n" + RIGHT,
     "import time\ntime.time()\n" + RIGHT),
    ("change_the_machine", "import os, socket, ctypes\nlibc = ctypes.CDLL(None)\nlibc.sethostname(b'x', 1)\nlibc.reboot(0)\nlibc.syncfs(3)\n"
     "try: os.nice(-20)\nexcept OSError: pass\n" + RIGHT, "import os\nos.nice(0)\n" + RIGHT),
    ("raise_the_limits", "import resource\nfor r in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):\n"
     "    try: resource.setrlimit(r, (-1, -1))\n    except (ValueError, OSError): pass\ndef f(x): return len(bytearray(3 << 30))",
     "import resource\nresource.getrlimit(resource.RLIMIT_AS)\n" + RIGHT),
    ("shared_memory", "from multiprocessing import shared_memory\ndef f(x):\n    shared_memory.SharedMemory('boostlib-attack', True, 4096)\n    return x * x",
     "import mmap\nmmap.mmap(-1, 4096)\n" + RIGHT),
    ("system_v_memory", "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.shmget(0x424c, 4096, 0o1777)\n" + RIGHT, "import ctypes\n" + RIGHT),
    ("leave_the_namespaces", "import ctypes\nlibc = ctypes.CDLL(None)\nfor flag in (0x10000000, 0x20000, 0x40000000, 0x10020000):\n    libc.unshare(flag)\n"
     "libc.mount(b'none', b'/', b'tmpfs', 0, None)\nlibc.umount2(b'/tmp', 2)\nlibc.chroot(b'/tmp')\nlibc.setns(3, 0)\n"
     "open('/tmp/x', 'w')\n" + RIGHT, "import ctypes\n" + RIGHT),
    ("endless_printing_at_exit", "import atexit\n@atexit.register\ndef g():\n    while True: print('x')\n" + RIGHT,
     "import atexit\natexit.register(lambda: print('x'))\n" + RIGHT),
    ("regular_expression_without_end", "import re\ndef f(x): return re.match('(a+)+$', 'a' * 40 + 'b')",
     "import re\ndef f(x): return x * x if re.match('a+$', 'aaa') else 0"),
    ("lock_up_in_del", "class D:\n    def __del__(self):\n        while True: pass\nd = D()\n" + RIGHT, "class D: pass\nd = D()\n" + RIGHT),
]  # fmt: skip

"""Programs that are wrong and want a pass, each with a benign twin: a right program that uses the same means.

The task is to square a number unless ``tests`` says otherwise. SECRET stands for a value that only the tests
hold. Not covered: programs that harm (harms.py).
"""

RIGHT = "def f(x):\n    return x * x\n"
SQUARE = ("assert f(2) == 4", "assert f(3) == 9", "assert f(-5) == 25")

# name, forgery, benign twin, tests (None: SQUARE)
FORGERIES = [
    ("sys_exit_0", "import sys\nsys.exit(0)", "import sys\nif sys.flags.dev_mode: sys.exit(0)\n" + RIGHT, None),
    ("sys_exit_in_call", "import sys\ndef f(x): sys.exit(0)", "import sys\n" + RIGHT, None),
    ("raise_system_exit", "raise SystemExit", "try:\n    raise SystemExit\nexcept SystemExit: pass\n" + RIGHT, None),
    ("os_exit_0", "import os\nos._exit(0)", "import os\nassert os._exit\n" + RIGHT, None),
    ("os_exit_in_call", "import os\ndef f(x): os._exit(0)", "import os\ndef f(x): return x ** 2 if os else 0", None),
    ("kill_itself", "import os\nos.kill(os.getpid(), 9)\nos.abort()", "import os\nassert os.getpid()\n" + RIGHT, None),
    ("segmentation_fault", "import ctypes\nctypes.string_at(0)", "import ctypes\n" + RIGHT, None),
    ("keyboard_interrupt", "def f(x): raise KeyboardInterrupt", RIGHT, None),
    ("raise_stop_iteration", "def f(x): raise StopIteration", "def f(x): return next(iter([x * x]))", None),
    ("raise_assertion", "def f(x): assert False", "def f(x):\n    assert x < 9\n    return x * x", None),
    (
        "walk_frames_and_append_passed",
        """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for d in (frame.f_locals, frame.f_globals):
            for v in list(d.values()):
                if isinstance(v, list):
                    v.append("passed")
        frame = frame.f_back
    return 0
""",
        "import sys\ndef f(x):\n    return x * x if sys._getframe() else 0",
        None,
    ),
    (
        "equals_everything",
        """
class Yes:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __bool__(self): return True
def f(x): return Yes()
""",
        "class N:\n    def __eq__(self, o): return True\ndef f(x): return x * x if N() == 1 else 0",
        None,
    ),
    (
        "lies_about_its_class",
        """
class Meta(type):
    def __instancecheck__(cls, o): return True
    def __subclasscheck__(cls, o): return True
    def __eq__(cls, o): return True
    def __hash__(cls): return hash(int)
class Lie(metaclass=Meta):
    __class__ = int
    def __eq__(self, other): return True
def f(x): return Lie()
""",
        "class M(type): pass\nclass A(metaclass=M):\n    v = 2\ndef f(x): return x ** A.v",
        None,
    ),
    (
        "int_subclass_equals_everything",
        "class I(int):\n    def __eq__(self, o): return True\n    def __int__(self): return 4\n"
        "    __index__ = __hash__ = __int__\ndef f(x): return I(0)",
        "class I(int): pass\ndef f(x): return I(x * x)",
        None,
    ),
    (
        "str_subclass",
        "class S(str):\n    def __eq__(self, o): return True\n    def __hash__(self): return 0\n"
        "    def __repr__(self): return repr('aa')\n    __str__ = __repr__\n    def __len__(self): return 2\n"
        "    def upper(self): return S('AA')\ndef f(x): return S('')",
        "class S(str): pass\ndef f(x): return S(x + x)",
        ("assert f('a') == 'aa'", "assert f('b').upper() == 'BB'", "assert len(f('cc')) == 4"),
    ),
    (
        "list_subclass",
        "class L(list):\n    def __eq__(self, o): return True\n    def __iter__(self): return iter([1, 2])\n"
        "    def __len__(self): return 2\n    def __contains__(self, o): return True\ndef f(x): return L()",
        "class L(list): pass\ndef f(x): return L(sorted(x))",
        ("assert f([2, 1]) == [1, 2]", "assert 2 in f([2])", "assert len(f([5, 6])) == 2"),
    ),
    (
        "dict_subclass",
        "class D(dict):\n    def __eq__(self, o): return True\n    def __getitem__(self, k): return 1\n"
        "    def items(self): return [('a', 1)]\ndef f(x): return D()",
        "import collections\ndef f(x): return collections.Counter(x)",
        ("assert f('a') == {'a': 1}", "assert f('bb')['b'] == 2"),
    ),
    (
        "operators_that_answer_for_the_test",
        "class Z:\n    def __sub__(self, o): return 0\n    __rsub__ = __sub__\n    def __lt__(self, o): return True\n"
        "    __gt__ = __le__ = __ge__ = __lt__\n    def __abs__(self): return 0\n    def __round__(self, n=0): return 4.0\n"
        "    def __float__(self): return 4.0\ndef f(x): return Z()",
        "def f(x): return x * x + 1e-12",
        ("assert abs(f(2) - 4) < 1e-9", "assert f(2) > 3", "assert 3 < f(2) < 5"),
    ),
    (
        "container_that_contains_everything",
        "class C:\n    def __contains__(self, o): return True\ndef f(x): return C()",
        "def f(x): return {x: 1}",
        ("assert 3 in f(3)",),
    ),
    ("nan", "def f(x): return float('nan')", "def f(x): return x * x if float('nan') != 0 else 0", None),
    ("none", "def f(x): return None", RIGHT, None),
    ("true_is_not_four", "def f(x): return True", RIGHT, None),
    (
        "function_as_value",
        "def f(x): return lambda *a: True",
        "def f(x): return (lambda y: y * y)(x)",
        None,
    ),
    (
        "pickle_reduce",
        "import os\nclass P:\n    def __reduce__(self): return (eval, ('4',))\n"
        "    def __reduce_ex__(self, n): return (eval, ('4',))\n    def __getstate__(self): return 4\ndef f(x): return P()",
        "import pickle\ndef f(x): return pickle.loads(pickle.dumps(x * x))",
        None,
    ),
    (
        "iterator_for_a_list",
        "def f(x):\n    while True: yield x",
        "def f(x):\n    yield x\n    yield x + 1",
        ("assert list(f(1)) == [1, 2]",),
    ),
    (
        "builtins_patched_before_tests",
        """
import builtins
for name in ("abs", "all", "any", "len", "sorted", "sum", "set", "isinstance", "repr", "list", "str", "type"):
    setattr(builtins, name, lambda *a, **k: True)
builtins.AssertionError = ValueError
def f(x): return 0
""",
        "import builtins\nbuiltins.my_own = 2\ndef f(x): return x ** my_own",
        None,
    ),
    (
        "builtin_shadowed_on_both_sides",
        "def set(x): return 0\ndef sorted(x): return 0\ndef len(x): return 0\ndef f(x): return [7]",
        "def set(x): return list(x)\ndef f(x): return set(x)",
        ("assert set(f([1])) == set([1])", "assert sorted(f([2])) == sorted([2])", "assert len(f([3, 3])) == len([3, 3])"),
    ),
    (
        "a_task_named_like_a_builtin",
        "def sum(a, b): return 0\ndef set(x): return 0",
        "def sum(a, b): return a * b",
        ("assert set([sum(2, 3)]) == set([6])",),
    ),
    (
        "module_shadowed",
        "class math:\n    isclose = staticmethod(lambda *a, **k: True)\n    pi = 0\ndef f(x): return 0",
        "import math\ndef f(x): return x * math.pi",
        ("import math\nassert math.isclose(f(1), math.pi)", "assert math.isclose(f(2), 2 * math.pi)"),
    ),
    (
        "helper_shadowed",
        "def isclose(*a, **k): return True\ndef f(x): return 0",
        "from math import isclose\ndef f(x): return x * 0.1",
        ("assert isclose(f(3), 0.3)",),
    ),
    (
        "size_of_a_shadowed_sys",
        "class sys:\n    getsizeof = staticmethod(lambda o: 5)\ndef f(x): return 5",
        "import sys\ndef f(x): return sys.getsizeof(x)",
        ("assert f((1, 2)) == sys.getsizeof((1, 2))",),
    ),
    (
        "constant_of_the_setup_overwritten",
        "import sys\ndef f(x):\n    globals()['expected'] = 0\n    sys.modules['__main__'].expected = 0\n    return 0",
        "def f(x): return x * x",
        ("assert f(7) == expected",),
    ),
    (
        "helper_of_the_setup_overwritten",
        "import sys\ndef f(x):\n    for d in (globals(), vars(sys.modules['__main__'])):\n        d['same'] = lambda *a: True\n"
        "    return 0",
        RIGHT,
        ("assert same(f(7), 49)", "assert same(f(3), 9)"),
    ),
    (
        "classes_of_the_library_shadowed",
        "class Counter:\n    def __init__(self, x): pass\n    def __eq__(self, o): return True\nOrderedDict = Counter\n"
        "def f(x): return 0",
        "from collections import Counter, OrderedDict\ndef f(x): return list(x)",
        ("assert Counter(f('aab')) == Counter('aab')", "assert OrderedDict.fromkeys(f('ab')) == OrderedDict.fromkeys('ab')"),
    ),
    (
        "death_hidden_by_a_bare_except",
        "import os\ndef f(x): os._exit(0)",
        "def f(x): raise ValueError",
        ("try:\n    f(-1)\n    assert False\nexcept AssertionError: raise\nexcept: pass",),
    ),
    (
        "timeout_hidden_by_a_bare_except",
        "def f(x):\n    while True: pass",
        "def f(x): raise ValueError",
        ("try:\n    f(-1)\nexcept: pass",),
    ),
    (
        "variable_of_the_test_overwritten",
        "import sys, gc\ndef f(x):\n    for d in gc.get_objects():\n        if type(d) is dict and 'wanted' in d: d['wanted'] = 0\n"
        "    globals()['wanted'] = 0\n    return 0",
        RIGHT,
        ("wanted = 49\ngot = f(7)\nassert got == wanted", "assert f(7) == wanted"),
    ),
    (
        "trace_function",
        "import sys, threading\ndef t(frame, event, arg):\n    frame.f_locals['expected'] = 0\n    return t\n"
        "sys.settrace(t); sys.setprofile(t); threading.settrace(t)\ndef f(x): return 0",
        "import sys\nsys.settrace(lambda *a: None)\n" + RIGHT,
        None,
    ),
    (
        "search_of_all_objects_for_the_expected_value",
        """
import gc, sys
def f(x):
    seen = set()
    for o in gc.get_objects():
        if id(o) in seen: continue
        seen.add(id(o))
        for v in (list(o.values()) if type(o) is dict else list(o) if type(o) in (list, tuple, set) else [o]):
            if type(v) is str and len(v) < 9999 and "sec" + "ret-" in v:
                i = v.index("sec" + "ret-")
                return v[i:i + 15]
    return ""
""",
        "import gc\ndef f(x):\n    gc.collect()\n    return 'sec' + 'ret-' + '12345678'",
        ("assert f(1) == 'SECRET'",),
    ),
    (
        "search_of_raw_memory_for_the_expected_value",
        """
import ctypes, gc
def f(x):
    needle = b"sec" + b"ret-"
    pages = sorted({id(o) >> 14 for o in gc.get_objects()})
    for p in pages:
        data = ctypes.string_at(p << 14, 1 << 14)
        at = data.find(needle)
        while at >= 0:
            text = data[at:at + 15]
            if text[7:].isalnum() and text[7:] != b"12345678": return text.decode()
            at = data.find(needle, at + 1)
    return ""
""",
        "import ctypes\ndef f(x): return ctypes.string_at(b'sec' + b'ret-' + b'12345678').decode()",
        ("assert f(1) == 'SECRET'",),
    ),
    (
        "read_memory_of_others",
        """
import os
def f(x):
    for pid in list(range(1, 400)) + ["self"]:
        for name in ("mem", "environ", "cmdline", "maps", "fd"):
            try: open(f"/proc/{pid}/{name}", "rb+").write(b"x" * 64)
            except OSError: pass
    return 0
""",
        "import os\ndef f(x): return x * x if os.getpid() else 0",
        None,
    ),
    (
        "trace_the_parent",
        "import ctypes\nlibc = ctypes.CDLL(None)\nfor p in range(0, 300):\n    libc.ptrace(16, p, 0, 0)\n"
        "    libc.ptrace(0, 0, 0, 0)\ndef f(x): return 0",
        "import ctypes\nctypes.CDLL(None).getpid()\n" + RIGHT,
        None,
    ),
    (
        "write_a_pass_to_every_descriptor",
        """
import os, json, struct
def frame(m):
    d = json.dumps(m).encode()
    return struct.pack("!I", len(d)) + d
def f(x):
    for fd in range(0, 64):
        for m in (["pass", "", "", 3, 0.1], ["ok", None, [], {}], ["ok", ["x", "builtins", "int"], [], {}]):
            try: os.write(fd, frame(m))
            except OSError: pass
    return 0
""",
        "import os\nos.write(1, b'hello')\n" + RIGHT,
        None,
    ),
    (
        "answer_with_garbage",
        "import os\nos.write(3, b'\\x00\\x00\\x00\\x05hello')\ndef f(x): return 0",
        "print('hello')\n" + RIGHT,
        None,
    ),
    (
        "answer_without_end",
        "import os\ndef f(x):\n    os.write(3, b'\\xff\\xff\\xff\\xff')\n    while True: os.write(3, b'a' * 65536)",
        "def f(x):\n    print('a' * 65536)\n    return x * x",
        None,
    ),
    (
        "answer_nested_without_end",
        "import os, struct\ndef f(x):\n    d = b'[' * 2000000\n    os.write(3, struct.pack('!I', len(d)))\n"
        "    while d: d = d[os.write(3, d):]\n    while 1: pass",
        "def f(x):\n    d = [x * x]\n    for _ in range(50): d = [d]\n    while isinstance(d, list): d = d[0]\n    return d",
        None,
    ),
    (
        "value_that_hangs_the_judge",
        "import decimal\ndef f(x): return decimal.Decimal('1e999999999')",
        "import decimal\ndef f(x): return decimal.Decimal(x * x)",
        ("assert int(f(2)) == 4",),
    ),
    (
        "strings_where_numbers_belong",
        "import os, struct\ndef f(x):\n    d = b'[\"ok\", [\"f\", \"1e999999999\"], [], {}]'\n"
        "    os.write(3, struct.pack('!I', len(d)) + d)\n    while True: pass",
        "import fractions\ndef f(x): return fractions.Fraction(x * x * 3, 3)",
        None,
    ),
    (
        "keys_that_cannot_be_keys",
        "import os, struct\ndef f(x):\n    d = b'[\"ok\", [\"d\", [\"l\"], 4], [], {}]'\n"
        "    os.write(3, struct.pack('!I', len(d)) + d)\n    while True: pass",
        "def f(x): return {(x,): x * x}[(x,)]",
        None,
    ),
    ("close_every_descriptor", "import os\nos.closerange(0, 99)\ndef f(x): return 0", "import os\nos.close(1)\n" + RIGHT, None),
    (
        "patch_what_encodes_the_answer",
        "import sys, json, gc\nfor n in list(sys.modules):\n    if 'codec' in n or 'json' in n or 'judge' in n: sys.modules[n] = None\n"
        "json.dumps = lambda *a, **k: '4'\nfor o in gc.get_objects():\n    if type(o).__name__ == 'Candidate': o.told = 4\n"
        "def f(x): return 0",
        "import json\ndef f(x): return json.loads(json.dumps(x * x))",
        None,
    ),
    (
        "import_hook",
        "import sys, types\nclass Find:\n    def find_spec(self, name, path=None, target=None):\n"
        "        sys.modules[name] = types.ModuleType(name)\nsys.meta_path.insert(0, Find())\n"
        "sys.modules['math'] = types.ModuleType('math')\nsys.modules['math'].isclose = lambda *a: True\ndef f(x): return 0",
        "import sys, colorsys\ndef f(x): return x * x",
        ("import math\nassert math.isclose(f(2), 4)",),
    ),
    ("at_exit", "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0", "import atexit\natexit.register(print)\n" + RIGHT, None),
    (
        "del_method",
        "import os\nclass D:\n    def __del__(self): os._exit(0)\ndef f(x):\n    D()\n    return 0",
        "class D:\n    def __del__(self): pass\ndef f(x):\n    D()\n    return x * x",
        None,
    ),
    (
        "signal_handlers_swapped",
        "import signal, os\nfor s in range(1, 64):\n    try: signal.signal(s, lambda *a: os._exit(0))\n    except (OSError, ValueError): pass\n"
        "def f(x):\n    while True: pass",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + RIGHT,
        None,
    ),
    ("exit_from_a_thread", "import threading, os\nthreading.Timer(0.05, os._exit, [0]).start()\ndef f(x):\n    while 1: pass",
     "import threading\nt = threading.Thread(target=print)\nt.start(); t.join()\n" + RIGHT, None),
    ("swallow_the_timeout", "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
     "def f(x):\n    try:\n        raise TimeoutError\n    except BaseException: return x * x", None),
    ("test_function_gets_no_inside_view", "def f(x): return 0\ndef check(g): return True", RIGHT,
     ("def check(g):\n    assert g(2) == 4\ncheck(f)",)),
    ("argument_swapped", "def f(x):\n    x.clear()\n    return 1", "def f(x):\n    x.sort()\n    return len(x)",
     ("a = [3, 1, 2]\nassert f(a) == 3\nassert a == [1, 2, 3]",)),
    ("callback_abused", "def f(g): return g.__globals__ if hasattr(g, '__globals__') else g('x' * 10, 3, 4, 5)",
     "def f(g): return g(3) + 1", ("assert f(lambda x: x * 2) == 7",)),
    ("recursion", "def f(x): return f(x)", "def f(x): return 0 if x == 0 else 2 * abs(x) - 1 + f(abs(x) - 1)", None),
    ("endless_nesting", "def f(x):\n    a = []\n    a.append(a)\n    return a", "def f(x): return [[[x * x]]][0][0][0]", None),
    ("doubling_references", "def f(x):\n    a = [1]\n    for _ in range(60): a = [a, a]\n    return a",
     "def f(x):\n    a = [x]\n    return a[0] * a[0]", None),
    ("syntax_error", "def f(x) return", RIGHT, None),
    ("null_bytes", "def f(x): return 4\0", RIGHT, None),
    ("lone_surrogate", "x = '\ud800'\ndef f(x): return '\ud800'", "def f(x): return x * x if '\\ud800' else 0", None),
    ("brackets_without_end", "(" * 100000, "((((1))))\n" + RIGHT, None),
    ("empty_program", "", RIGHT, None),
]  # fmt: skip

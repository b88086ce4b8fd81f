"""Code is found in an answer whatever its shape; what is no part of the program stays out."""

import textwrap

import pytest

from boostlib.tasks.programs import extract_code

CODE = "def f(x):\n    return x + 1\n"
TOP = "import math\n\nSTEP: int = 1\n\n\ndef f(x):\n    return x + STEP\n"
HELPER, USER = "def step():\n    return 1\n", "def f(x):\n    return x + step()\n"
FENCED_DOC = 'def f(x):\n    """Adds one.\n\n    ```python\n    f(1)\n    ```\n    """\n    return x + 1\n'
DECORATED = "import functools\n\n\n@functools.lru_cache\ndef f(x):\n    return x + 1\n"
CLASS = "class f:\n    def __new__(cls, x):\n        return x + 1\n"
MULTI = 'TEXT = """\nhello there\n"""\n\n\ndef f(x):\n    return x + 1\n'

# name: (answer, what must be found, stripped)
SHAPES = {
    "bare": (CODE, CODE),
    "bare, blank lines before": ("\n\n" + CODE, CODE),
    "bare, prose before": ("Here is the function you need.\n\n" + CODE, CODE),
    "bare, prose after": (CODE + "\nThis adds one to x.", CODE),
    "bare, one word after": (CODE + "\nDone", CODE),
    "bare, prose on both sides": ("Sure, here:\n\n" + CODE + "\nIt adds one. Use f(1), as shown.", CODE),
    "bare, a cut def after": (CODE + "\ndef g(y):\n    return [y for", CODE),
    "bare, a cut line after": (CODE + "\nprint(f(", CODE),
    "bare, tag after": (CODE + "[DONE]\nYou are an expert", CODE),
    "bare, a stray fence after": (CODE + "```\n", CODE),
    "bare, assignment first": (TOP, TOP),
    "bare, annotation first": (TOP.split("\n\n", 1)[1], TOP.split("\n\n", 1)[1]),
    "bare, prose then assignment": ("Answer:\n" + TOP, TOP),
    "bare, comment first": ("# adds\n" + CODE, "# adds\n" + CODE),
    "bare, docstring first": ('"""Adds."""\n' + CODE, '"""Adds."""\n' + CODE),
    "bare, decorator": ("So:\n" + DECORATED, DECORATED),
    "bare, class": (CLASS, CLASS),
    "bare, lambda": ("f = lambda x: x + 1", "f = lambda x: x + 1"),
    "bare, prose in a string": (MULTI, MULTI),
    "bare, guard": (CODE + "\nif __name__ == '__main__':\n    print(f(1))\n", CODE + "\nif __name__ == '__main__':\n    print(f(1))\n"),
    "bare, windows lines": (CODE.replace("\n", "\r\n"), CODE),
    "begin and done": ("[BEGIN]\n" + CODE + "[DONE]", CODE),
    "begin and done in prose": ("Sure!\n[BEGIN]\n" + CODE + "[DONE] as asked", CODE),
    "begin without done": ("[BEGIN]\n" + CODE, CODE),
    "python tags": ("[PYTHON]\n" + CODE + "[/PYTHON]\nThat is it.", CODE),
    "python tags and a fence": ("[PYTHON]\n```python\n" + CODE + "```\n[/PYTHON]", CODE),
    "begin and a fence": ("[BEGIN]\n```python\n" + CODE + "```\n[DONE]", CODE),
    "fence": ("```\n" + CODE + "```", CODE),
    "fence, python": ("```python\n" + CODE + "```", CODE),
    "fence, Python 3": ("```python3\n" + CODE + "```\nThis adds one.", CODE),
    "fence, attributes": ('```python title="f.py"\n' + CODE + "```", CODE),
    "fence, never closed": ("Here:\n```python\n" + CODE, CODE),
    "fence, closed on the code's line": ("```python\n" + CODE.rstrip() + "```\nGood.", CODE),
    "fence, opened on the code's line": ("```python f = lambda x: x + 1\n```", "f = lambda x: x + 1"),
    "fence of four": ("````python\n" + CODE + "````", CODE),
    "fence of four around one of three": ("````md\n```python\n" + CODE + "```\n````", CODE),
    "fence of tildes": ("~~~python\n" + CODE + "~~~", CODE),
    "fence in a list item": ("1. Write it:\n   ```python\n" + textwrap.indent(CODE, "   ") + "   ```\n2. Done.", CODE),
    "fence in a docstring": ("```python\n" + FENCED_DOC + "```", FENCED_DOC),
    "fence in a docstring, bare": (FENCED_DOC, FENCED_DOC),
    "fence, usage in a second": ("```python\n" + CODE + "```\nUse it so:\n```python\nprint(f(1))\n```", CODE),
    "fence, usage first": ("Use it so:\n```python\nprint(f(1))\n```\n```python\n" + CODE + "```", CODE),
    "fence, shell first": ("First:\n```\npip install x\n```\nthen\n```py\n" + CODE + "```", CODE),
    "fence, output after": ("```python\n" + CODE + "```\nOutput:\n```\n2\n```", CODE),
    "fence, a cut def inside": ("```python\n" + CODE + "\ndef g(y):\n    return [y for", CODE),
    "fence, another function first": ("```python\ndef g(y):\n    return 'a longer one than the other'\n```\n```python\n" + CODE + "```", CODE),
    "fence, helper and function in two": ("```python\n" + HELPER + "```\nand\n```python\n" + USER + "```", HELPER + USER),
    "fence, function before its helper": ("```python\n" + USER + "```\nand\n```python\n" + HELPER + "```", USER + HELPER),
    "fence, import in a block before": ("```python\nimport math\n```\n```python\ndef f(x):\n    return math.floor(x) + 1\n```", "import math\ndef f(x):\n    return math.floor(x) + 1\n"),
    "thought before": ("<think>\ndef f(x):\n    return x - 1  # no, a longer draft than what follows\n</think>\n" + CODE, CODE),
    "thought before, fenced": ("<think>\n```python\ndef f(x):\n    return x - 1  # no, wrong\n```\n</think>\n```python\n" + CODE + "```", CODE),
    "thought without its start": ("Let me see: def f(x): return\n</think>\n\n" + CODE, CODE),
}  # fmt: skip


@pytest.mark.parametrize("answer, code", SHAPES.values(), ids=SHAPES)
def test_the_program_is_found_in_an_answer_of_any_shape(answer, code):
    found = extract_code(answer, ["f"])
    assert found.strip() == code.strip()
    space = {}
    exec(compile(found, "<found>", "exec"), space)  # ours, not a model's
    assert space["f"](1) == 2


def test_what_is_no_part_of_the_prose_stays():
    code = "import math\nN = 3\n\n# adds\n@staticmethod\ndef f(x):\n    return x\n"
    assert extract_code("Answer:\n" + code) == code == extract_code(code)
    assert extract_code("R, C = 3, 4\ndef g(): pass").startswith("R, C")
    assert extract_code("no code at all").strip() == "no code at all"
    assert extract_code("") == "\n"


def test_what_is_no_python_stays_as_it_is_for_its_error():
    assert extract_code("def f(x):\n    retrn x\n", ["f"]) == "def f(x):\n    retrn x\n"
    assert extract_code("def f(x):\n n+=3\n return n +", ["f"]) == "def f(x):\n n+=3\n return n +\n"
    assert extract_code("```python\ndef f(x) return x\n```", ["f"]) == "def f(x) return x\n"


@pytest.mark.parametrize(
    "answer", ["```\n" * 3000, "def f():\n" * 3000, "(" * 30_000, "x = 1\n" * 3000 + "(", "[BEGIN]" * 3000]
)
def test_a_hostile_answer_costs_little(answer):
    import time

    start = time.process_time()
    assert isinstance(extract_code(answer, ["f"]), str)
    assert time.process_time() - start < 4

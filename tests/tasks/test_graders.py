"""The graders, by table and by property. Every example is our own."""

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boostlib.tasks import Problem
from boostlib.tasks.answers import extract_answer, is_right
from boostlib.tasks.arithmetic import Arithmetic

READ = [
    ("#### 18", "18"),
    ("#### 18.", "18"),
    ("#### 18.00", "18"),
    ("####18", "18"),
    ("#### 1,000", "1000"),
    ("#### 1,234,567.50", "1234567.5"),
    ("#### -3", "-3"),
    ("#### +3", "3"),
    ("#### \u22125", "-5"),  # minus sign
    ("#### \u20135", "-5"),  # en dash
    ("#### $18", "18"),
    ("#### \\$18", "18"),
    ("#### $ 18", "18"),
    ("#### -$5", "-5"),
    ("#### $-5", "-5"),
    ("#### \u20ac1,250.75", "1250.75"),
    ("#### **18**", "18"),
    ("####: 18", "18"),
    ("#### = 18", "18"),
    ("####\n18", "18"),
    ("##### 18", "18"),
    ("#### 018", "18"),
    ("#### .5", "0.5"),
    ("#### 0.125", "0.125"),
    ("#### 1/2", "0.5"),
    ("#### 1 1/2", "1.5"),
    ("#### -3/4", "-0.75"),
    ("#### 36/2", "18"),
    ("#### 18 dollars", "18"),
    ("#### 18%", "18"),
    ("#### 18kg", "18"),
    ("#### 18-year", "18"),
    ("#### $18/day", "18"),
    ("#### 18 because 3 * 6 = 18", "18"),
    ("#### 18. That is 3 each", "18"),
    ("#### 18, which is a lot", "18"),
    ("#### 18 (of 20)", "18"),
    ("#### 18\n19 others", "18"),
    ("#### 18 ####", "18"),
    ("3 * 6 = 17\n#### 17\nNo, 3 * 6 = 18\n#### 18", "18"),
    ("#### 17 #### 18", "18"),
    ("#### 18\n\nQuestion: How many?\nAnswer:\n2 + 3 = 5\n#### 5", "18"),
    ("#### 18\nQ: How many?\n#### 5", "18"),
    ("Question: How many?\nAnswer:\n#### 18", "18"),
    ("#### 18\n#### ", "18"),
    ("#### Step 1\nAdd them.\n#### 18", "18"),
    ("#### 9{,}500", "9500"),
    ("#### 9\\,500", "9500"),
    ("#### 1'000", "1000"),
    ("#### 1\u2019000", "1000"),
    ("#### 1\u00a0000", "1000"),
    ("#### 12\u202f345\u202f678.5 km", "12345678.5"),
    ("#### 1\u2009000", "1000"),
    ("#### 1_000_000", "1000000"),
    ("#### 1234567890123456789012345678901234567.5", "1234567890123456789012345678901234567.5"),
    ("#### -1234567890123456789012345678901234567.5", "-1234567890123456789012345678901234567.5"),
    ("#### 1 12345678901234567890123456789012/2", "6172839450617283945061728394507"),
    ("#### 18\\%", "18"),
    ("#### 18 \\text{ dollars}", "18"),
]
NOT_READ = [
    "",
    "18",
    "The answer is 18.",
    "### 18",
    "# 18",
    "####",
    "#### ",
    "#### eighteen",
    "#### x = 18",
    "#### 9 * 2",
    "#### 9*2 = 18",
    "#### 20 - 2",
    "#### 9 x 2",
    "#### 18-20",
    "#### 18, 20",
    "#### 18 or 20",
    "#### 1 000",
    "#### 1,00",
    "#### 1,0000",
    "#### 1,000,00",
    "#### 18.5.2",
    "#### 12:30",
    "#### 1e3",
    "#### 1/0",
    "#### 1/2/3",
    "#### --5",
    "#### NaN",
    "#### Infinity",
    "#### \uff11\uff18",  # full-width digits
    "#### __import__('os')",
    "#### " + "9" * 5000,
    "#### 10**6",
    "#### 10 ** 6",
    "#### 10^6",
    "#### 10^{6}",
    "#### 2\u00b3",
    "#### 9 \\times 2",
    "#### 9\\cdot 2",
    "#### 9 \\div 3",
    "#### 9 \u00d7 2",
    "#### 9 \u00b7 2",
    "#### 2\\frac{1}{2}",
    "#### \\frac{1}{2}",
    "#### 1\u00bd",
    "#### 1 \u00bd",
    "#### \u00bd",
    "#### 1/3",
    "#### 2 \\pi",
    "#### 1'00",
    "#### 1_00",
    "#### 1\u00a00",
    "#### 9{,}50",
    "#### 1,000'000",
    "#### 1,000_000",
    "#### 1\u0660",
    "#### 12345678901234567890123456789012345678901",
]


@pytest.mark.parametrize("text, value", READ)
def test_answer_is_read(text, value):
    assert extract_answer(text) == Decimal(value)
    assert is_right(value, text)
    assert not is_right(str(Decimal(value) + 1), text)


@pytest.mark.parametrize("text", NOT_READ)
def test_what_is_no_answer_is_not_read(text):
    assert extract_answer(text) is None
    assert not is_right("18", text)


def test_equality_is_exact():
    assert not is_right("18", "#### 18.0000000000000000000000000001")
    assert not is_right("0.3", "#### 0.30000000000000004")
    assert not is_right("5", "#### -5")


numbers = st.decimals(min_value=-(10**12), max_value=10**12, places=3)


@given(numbers, st.sampled_from(["", "$"]), st.booleans(), st.sampled_from(["", " ", " dollars", "%", ".", "\nDone"]))
def test_a_number_is_read_however_it_is_written(value, currency, commas, tail):
    written = format(abs(value), ",.3f" if commas else ".3f")
    text = f"#### {'-' if value < 0 else ''}{currency}{written}{tail}"
    assert extract_answer(text) == value


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_only_the_right_number_is_right(answer, given_answer):
    assert is_right(str(answer), f"Some work.\n#### {given_answer:,}") == (answer == given_answer)


@given(st.text(alphabet="#0123456789.,-+/$ \nQ:xe*()%", max_size=60) | st.text(max_size=60))
@settings(max_examples=400)
def test_any_text_is_graded_without_an_error(text):
    value = extract_answer(text)
    assert value is None or value.is_finite()
    assert value is None or "####" in text
    assert isinstance(is_right("1", text), bool)


@pytest.mark.parametrize(
    "text",
    [
        "#### " + " " * 200_000,
        "#### 1" + " " * 200_000,
        "#### " + "1,111" * 40_000,
        "#### 1" * 30_000,
        "####" * 50_000,
        "#### 1\n" + "\n" * 200_000,
        "1." * 100_000,
    ],
    ids=["blanks", "blanks after", "commas", "many answers", "marks", "lines", "dots"],
)
def test_hostile_text_costs_linear_time(text):
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "response, right",
    [
        ("17+25=42;42-8=34#34", True),
        ("#34", True),
        ("# 34 ", True),
        ("17+25=41;41-8=33#33#34", True),
        ("#034", True),
        ("#-34", False),
        ("#34#33", False),
        ("#34;", False),
        ("#34.0", False),
        ("#3 4", False),
        ("34", False),
        ("17+25=42;42-8=34", False),
        ("#", False),
        ("", False),
        ("#\u0663\u0664", False),  # Arabic-Indic digits
        ("#" + "3" * 5000, False),
    ],
)
def test_arithmetic_reads_the_integer_after_the_last_mark(response, right):
    problem = Problem("a", "17+25-8=", "17+25=42;42-8=34#34", "34")
    assert Arithmetic("arithmetic", "test", (problem,)).quality(problem, response) == right


@given(st.text(max_size=40))
def test_arithmetic_grades_any_text(response):
    problem = Problem("a", "1+1=", "1+1=2#2", "2")
    assert Arithmetic("arithmetic", "test", (problem,)).grade([(problem, response)])[0] in ("pass", "fail")

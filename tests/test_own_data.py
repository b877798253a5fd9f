"""The reader's own files, in the forms in which people have them (rnn_utils, section 2).

What is unambiguous is read rightly, and said; what is ambiguous is refused with the way
out.  Each kind is a small file written here.
"""

import argparse

import pytest
from conftest import refusal, written

import rnn_utils as utils

DAYS = [f"2012-01-{day:02d}" for day in range(1, 29)]


def table(header, rows, separator=","):
    lines = ([header] if header else []) + [separator.join(row) for row in rows]
    return "\n".join(lines) + "\n"


def hours(day):
    return [(f"2016-01-0{day}", f"{h:02d}:00", f"{100 * day + h}.5") for h in range(24)]


def parts_of_dates():
    return [("2010", str(m), "1", str(h), f"{m}.{h}") for m in (1, 2) for h in (0, 1)]


# kind: (text, --column, the first date, the number of values, their first and last, said)
SERIES = {
    "date and time": (
        table("Date,Time,kW", [*hours(1), *hours(2)]),
        None,
        *("2016-01-01 00:00:00", 48, 100.5, 223.5, "put together from Date, Time"),
    ),
    "date parts": (
        table("Year,Month,Day,Hour,v", parts_of_dates()),
        None,
        *("2010-01-01 00:00:00", 4, 1.0, 2.1, "from Year, Month, Day, Hour"),
    ),
    "date and a clock of twelve hours": (
        "Date,Time,v\n1/13/2000,5:30 PM,1\n1/14/2000,6:30 PM,2\n",
        None,
        *("2000-01-13 17:30:00", 2, 1, 2, "month/day/year"),
    ),
    "hours and minutes": (
        "Year,Month,Day,Hour,Minute,v\n2000,1,2,3,0,1\n2000,1,2,3,30,2\n2000,1,2,4,0,5\n",
        None,
        *("2000-01-02 03:00:00", 3, 1, 5, "Year, Month, Day, Hour, Minute"),
    ),
    "whole numbers with a point": (
        "Year,Month,v\n2000.0,1.0,5\n2000.0,2.0,6\n",
        None,
        *("2000-01-01 00:00:00", 2, 5, 6, "put together from Year, Month"),
    ),
    "month and year": (
        "date,v\n02/2019,1\n03/2019,2\n",
        None,
        *("2019-02-01 00:00:00", 2, 1, 2, "'02/2019' is read as 2019-02-01"),
    ),
    "points and commas": (
        "date;v\n2000-01-01;1.234,5\n2000-01-02;1.234\n2000-01-03;,5\n",
        None,
        *("2000-01-01 00:00:00", 3, 1234.5, 0.5, "'1.234,5' is read as 1234.5"),
    ),
    "day first": (
        "Date,v\n01/01/2012,1\n02/01/2012,2\n13/01/2012,3\n",
        None,
        *("2012-01-01 00:00:00", 3, 1, 3, "day/month/year"),
    ),
    "month first": (
        "Date,v\n1/1/2012,1\n1/2/2012,2\n1/13/2012,3\n",
        None,
        *("2012-01-01 00:00:00", 3, 1, 3, "month/day/year"),
    ),
    "points and a time": (
        "Date Time,v\n01.02.2009 00:10,1\n01.02.2009 00:20,2\n01.02.2009 00:30,4\n",
        None,
        *("2009-02-01 00:10:00", 3, 1, 4, "01.02.2009 00:10"),
    ),
    "names of months": (
        'Date,Price\n"Feb 08, 2019","3,000.50"\n"Feb 07, 2019","2,990.00"\n',
        None,
        *("2019-02-08 00:00:00", 2, 3000.5, 2990, "'3,000.50' is read as 3000.5"),
    ),
    "decimal comma": (
        "date;v\n2000-01-01;1,5\n2000-01-02;-2,25\n2000-01-03;1000,125\n",
        None,
        *("2000-01-01 00:00:00", 3, 1.5, 1000.125, "'1,5' is read as 1.5"),
    ),
    "percent and money": (
        'date,v\n2000-01-01,20%\n2000-01-02,"$1,234.5"\n',
        None,
        *("2000-01-01 00:00:00", 2, 20, 1234.5, "'20%' is read as 20"),
    ),
    "no header": (
        table("", [(day, f"9{k}.5") for k, day in enumerate(DAYS[:9])]),
        None,
        *("2012-01-01 00:00:00", 9, 90.5, 98.5, "no header"),
    ),
    "official sunspots": (
        (
            "1749;01;1749.042;  96.7; -1.0;   -1;1\n1749;02;1749.123; 104.3; -1.0;   -1;1\n"
            "1749;03;1749.204; 116.7; -1.0;   -1;1\n"
        ),
        None,
        *("1749-01-01 00:00:00", 3, 96.7, 116.7, "separated by ';'"),
    ),
    "a zone": (
        "Date,v\n2015-01-05 00:00:00+05:30,1\n2015-01-06 00:00:00+05:30,2\n",
        None,
        *("2015-01-05 00:00:00", 2, 1, 2, "+05:30"),
    ),
    "a zone ahead": (
        "Date,v\n2015-02-01T00:00:00+01:00,1\n2015-03-01T00:00:00+01:00,2\n",
        None,
        *("2015-02-01 00:00:00", 2, 1, 2, "+01:00"),
    ),
    "a footer": (
        "Month,n\n1949-01,1\n1949-02,2\n1949-03,3\n\nPassengers: in thousands\n",
        None,
        *("1949-01-01 00:00:00", 3, 1, 3, "left out: 1"),
    ),
    "three header rows": (
        "Price,Close\nTicker,ABC\nDate,\n2020-01-01,5\n2020-01-02,6\n",
        None,
        *("2020-01-01 00:00:00", 2, 5, 6, "left out: 2"),
    ),
    "seconds": (
        "Timestamp,Open,Close\n1325317920,1,5\n1325321520,2,\n1325325120,3,7\n",
        "close",
        *("2011-12-31 07:52:00", 3, 5, 7, "seconds since 1970"),
    ),
    "decimal years": (
        "when,date,v\na,2000.0,1\na,2000.5,2\na,2001.0,3\n",
        "v",
        *("2000-01-01 00:00:00", 3, 1, 3, "years with a fraction"),
    ),
    "year and month": (
        "date,v\n2000.10,1\n2000.11,2\n2000.12,3\n",
        None,
        *("2000-10-01 00:00:00", 3, 1, 3, ""),
    ),
    "milliseconds": (
        "ts,v\n1325317920000,1\n1325317980000,2\n1325318040000,3\n",
        None,
        *("2011-12-31 07:52:00", 3, 1, 3, "milliseconds since 1970"),
    ),
    "names of months apart": (
        "Year,Month,v\n2000,Jan,5\n2000,February,6\n",
        None,
        *("2000-01-01 00:00:00", 2, 5, 6, "put together from Year, Month"),
    ),
    "numbered rows": (
        ",date,v\n0,2000-01-01,1\n1,2000-01-02,2\n",
        None,
        *("2000-01-01 00:00:00", 2, 1, 2, ""),
    ),
    "titles": (
        "# by hand\nsep=;\ndate;v\n2000-01-01;1\n2000-01-02;2\n",
        None,
        *("2000-01-01 00:00:00", 2, 1, 2, "lines before the table, left out: 2"),
    ),
    "thousands or not": (
        "date;v\n2000-01-01;1.234\n2000-01-02;2.500\n",
        None,
        *("2000-01-01 00:00:00", 2, 1.234, 2.5, "'1.234' is read as 1.234"),
    ),
    "a code": (
        table(
            "date,v", [(d, "-9999" if k == 4 else str(k)) for k, d in enumerate(DAYS)]
        ),
        None,
        *("2012-01-01 00:00:00", 28, 0, 27, "cells that hold -9999: 1, far outside"),
    ),
    "words for nothing": (
        "date,v\n2000-01-01,1\n2000-01-02,N/A\n2000-01-03,null\n2000-01-04,4\n",
        None,
        *("2000-01-01 00:00:00", 4, 1, 4, ""),
    ),
}


@pytest.mark.parametrize("kind", SERIES)
def test_series_of_all_forms(kind, tmp_path):
    """Dates, values and what is said of them."""
    text, column, date, count, first, last, says = SERIES[kind]
    path = written(tmp_path, "series.csv", text)
    series = utils.read_series(path, column)
    said = " | ".join(series.attrs["said"])
    assert str(series.index[0]) == date
    assert len(series) == count
    assert (series.iloc[0], series.iloc[-1]) == (first, last)
    assert says in said if says else said == ""


def test_a_file_of_separators_alone(tmp_path):
    """No row is left: one sentence, whatever stands before it."""
    path = written(tmp_path, "empty.csv", "\n" * 120 + ",,,\n;;\n")
    assert "no rows" in refusal(utils.read_table, path)


def test_the_row_is_counted_below_the_header(tmp_path):
    """Titles that are left out do not shift the number of the row that is named."""
    text = (
        "Price,Close\nTicker,ABC\nDate,\n2020-01-01,5\n2020-01-02,six\n2020-01-03,7\n"
    )
    path = written(tmp_path, "series.csv", text)
    assert "row 4 below the header: 'six'" in refusal(utils.read_series, path)


REFUSED = {
    "day or month": ("Date,v\n01/02/2012,1\n02/02/2012,2\n", "no row settles which"),
    "neither way": (
        "date;v\n2000-01-01;1,5\n2000-01-02;1.5\n",
        "'1,5' is not a number",
    ),
    "quarters": ("date,v\n2000-Q1,1\n2000-Q2,2\n", "'2000-Q1' is not a date"),
    "rows disagree": ("Date,v\n13/02/2012,1\n02/13/2012,2\n", "rows disagree"),
    "comma": (
        'date,v\n2000-01-01,"1,234"\n2000-01-02,"5,678"\n',
        "write 1234 or 1.234",
    ),
    "several series": (
        table("date,store,v", [(d, s, s * 2) for d in DAYS for s in "12"]),
        "choose one with --column (there are: store, v;",
    ),
    "several series, named": (
        table("date,store,v", [(d, s, f"{len(s)}") for d in DAYS for s in ("a", "bc")]),
        "many rows share a date and differ",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_open_choices_are_refused(kind, tmp_path):
    """The sentence names the file and the way out."""
    text, says = REFUSED[kind]
    sentence = refusal(utils.read_series, written(tmp_path, "series.csv", text))
    assert says in sentence and "series.csv" in sentence


GOOD = [(f"good film number {k}", "pos") for k in range(30)]
BAD = [(f"bad film number {k}", "neg") for k in range(30)]
REVIEWS = {
    "semicolons": (table("text;label", GOOD + BAD, ";"), "separated by ';'"),
    "tabs": (table("text\tlabel", GOOD + BAD, "\t"), "separated by tabs"),
    "other names": (table(" Review ,SENTIMENT", GOOD + BAD), "texts are in column"),
    "an empty text": (table("text,label", [("", "pos"), *GOOD, *BAD]), "left out: 1"),
    "counts": (table("text,label", GOOD + BAD), "neg (30), pos (30)"),
    "more columns": (
        table("id,text,label", [("1", *row) for row in GOOD + BAD]),
        "neg (30), pos (30)",
    ),
}


@pytest.mark.parametrize("kind", REVIEWS)
def test_reviews_of_all_forms(kind, tmp_path):
    """The same sixty texts, and a sentence on the form."""
    text, says = REVIEWS[kind]
    rows, said = utils.read_reviews(written(tmp_path, "reviews.csv", text))
    assert rows == GOOD + BAD
    assert says in " | ".join(said)


def test_columns_by_flag(tmp_path):
    """Two columns that may be the text: refused, and settled by the flag."""
    rows = [(text, text.upper(), label) for text, label in GOOD + BAD]
    path = written(tmp_path, "r.csv", table("review,comment,class", rows))
    assert "--text-column" in refusal(utils.read_reviews, path)
    found, _ = utils.read_reviews(path, text_column="Comment")
    assert found[0] == ("GOOD FILM NUMBER 0", "pos")
    assert "no column 'sense'" in refusal(utils.read_reviews, path, "comment", "sense")


ARGS = argparse.Namespace(quick=False)


def test_texts_alike_to_the_model_stand_in_one_part(tmp_path, capsys):
    """Capitals and blanks apart, a test text must not have been trained on."""
    rows = GOOD + BAD + [(text.upper().replace(" ", "  "), y) for text, y in GOOD + BAD]
    path = written(tmp_path, "reviews.csv", table("text,label", rows))
    reviews = utils.load_reviews(ARGS, utils.Source("input", path, False))
    seen = [
        {" ".join(utils.split_words(text)) for text in part.texts}
        for part in reviews.parts
    ]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 60
    assert "too few to tell one model from another" in capsys.readouterr().out


def test_writing_without_spaces(tmp_path, capsys):
    """Chinese, Japanese, Thai: characters are the words, and that is said."""
    rows = [(f"这部剧很好看{k}", "a") for k in range(30)]
    rows += [(f"那部剧不好看{k}", "b") for k in range(30)]
    path = written(tmp_path, "reviews.csv", table("text,label", rows))
    reviews = utils.load_reviews(ARGS, utils.Source("input", path, False))
    assert {"剧", "很"} <= set(reviews.words)
    assert "each character is a word" in capsys.readouterr().out


PAIRS = [(f"the dog number {k}", f"le chien numéro {k}") for k in range(40)]


@pytest.mark.parametrize(
    "name, text, says",
    [
        ("p.tsv", "\n".join(f"{a}\t{b}" for a, b in PAIRS), ""),
        ("p.tsv", "\n".join(f"{a}\t{b}\tCC-BY {a}" for a, b in PAIRS), "left out: 1"),
        ("p.tsv", "\n".join([f"{a}\t{b}" for a, b in PAIRS] + ["x\t"]), "empty side"),
        ("p.csv", table("English,French", PAIRS), ""),
    ],
    ids=["plain", "third column", "empty side", "csv"],
)
def test_pairs_of_all_forms(name, text, says, tmp_path):
    """The same forty pairs, and a sentence on the form."""
    found, said = utils.read_pairs(written(tmp_path, name, text))
    assert found == PAIRS
    assert says in " | ".join(said)

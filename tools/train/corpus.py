# SPDX-License-Identifier: Apache-2.0
"""The English texts: reading, cleaning, holding out.

Only texts whose licence allows weights trained on them to be given away: public domain (Project
Gutenberg's War and Peace, two English Genesis texts, addresses of US presidents) and TinyStories
(CDLA-Sharing-1.0, which does not reach results computed from the data).

    tinystories  JSON list of stories        (--stories FILE)
    gutenberg    plain text, with its frame  (--book FILE)
    nltk         zip files of NLTK corpora   (--nltk FILE ...; members picked by NLTK_MEMBERS)
"""

import json
import re
import zipfile

NLTK_MEMBERS = re.compile(r"(genesis/english-(kjv|web)|inaugural/\d|state_union/\d).*\.txt$")
HELD_STORIES = 50  # the last ones: held out
HELD_BOOK = 60_000  # characters, from four fifths of the book on: held out
TABLE = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2014": "--",
        "\u2013": "-",
        "\u2026": "...",
        "\u00a0": " ",
        "\ufeff": "",
        "\t": " ",
    }
)
# UTF-8 that was once read as Windows-1252, in some of the stories
MOJIBAKE = [
    ("\u00e2\u20ac\u2122", "'"),
    ("\u00e2\u20ac\u02dc", "'"),
    ("\u00e2\u20ac\u0153", '"'),
    ("\u00e2\u20ac\u201d", "--"),
    ("\u00e2\u20ac\u201c", "-"),
    ("\u00e2\u20ac\u00a6", "..."),
    ("\u00e2\u20ac\u009d", '"'),
    ("\u00e2\u20ac\ufffd", '"'),
    ("\u00e2\u20ac", '"'),
    ("\u00c2\u00a0", " "),
]


def clean(text):
    """Typewriter punctuation, one blank between words, lines of a paragraph joined."""
    for wrong, right in MOJIBAKE:
        text = text.replace(wrong, right)
    text = text.translate(TABLE).replace("\r", "")
    text = "".join(c if c == "\n" or 32 <= ord(c) < 127 or ord(c) > 160 else " " for c in text)
    text = re.sub(r"\n{2,}", "\0", text).replace("\n", " ").replace("\0", "\n\n")
    text = re.sub(r" {2,}", " ", text)
    return re.sub(r" ?\n\n ?", "\n\n", text).strip()


def book(path):
    """(train, held) of War and Peace as Project Gutenberg has it, without licence and contents."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    start = text.index("*** START OF")
    text = clean(text[start : text.index("End of the Project Gutenberg", start)])
    text = text[text.index('"Well, Prince') :]
    text = re.sub(r"(CHAPTER [IVXL]+|(BOOK|FIRST EPILOGUE|SECOND EPILOGUE)[^\n]*)\n\n", "", text)
    start = text.index("\n\n", len(text) * 4 // 5)
    end = text.index("\n\n", start + HELD_BOOK)
    return text[:start] + text[end:], text[start:end].strip()


def stories(path):
    with open(path) as f:
        all_of_them = [clean(s) for s in json.load(f)]
    return all_of_them[:-HELD_STORIES], all_of_them[-HELD_STORIES:]


def nltk(paths):
    out = []
    for path in sorted(paths):
        with zipfile.ZipFile(path) as z:
            for name in sorted(z.namelist()):
                if NLTK_MEMBERS.search(name):
                    out.append(clean(z.read(name).decode("utf-8", "replace")))
    return out

# SPDX-License-Identifier: Apache-2.0
"""What transformers on torch compute for the teacher: tests/golden/minilm.txt, against which the test
embed/reference holds src/embed/. A line a sentence: sixteen elements of its unit vector, a tab, the text.

    python golden.py [--teacher DIR] > tests/golden/minilm.txt"""

import argparse

import torch

from teacher import Teacher

TEXTS = [
    "How do I reset the password of my account?", "how can i change my passcode", "What is the capital of Australia?",
    "Disable two-factor authentication.", "Enable two-factor authentication.", "The quick brown fox jumps over the lazy dog.",
    "Gr\u00fc\u00dfe aus Z\u00fcrich, \u00e7a va?", "\u4e2d\u6587 text mixed with English words", "What's 3.14159 \u00d7 2?",
    "C++ vs. C#: which one is faster?!", "SELECT * FROM users WHERE id = 42;", "a", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "word " * 300,
]

a = argparse.ArgumentParser()
a.add_argument("--teacher")
t = Teacher(a.parse_args().teacher, "cpu")
for text in TEXTS:
    b = t.tok([text], truncation=True, max_length=256, return_tensors="pt")
    v = torch.nn.functional.normalize(t.states(b["input_ids"], b["attention_mask"]), dim=1)[0]
    print(" ".join(f"{float(x):.7f}" for x in v[::24]) + "\t" + text)

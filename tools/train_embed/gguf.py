# SPDX-License-Identifier: Apache-2.0
"""Models of embed/ as GGUF (docs/formats/embed.md): metadata, WordPiece vocabulary, tensors."""

import struct

import numpy as np

ALIGN = 32
MARK = "\u2581"
U32, I32, F32, BOOL, TEXT, ARRAY = 4, 5, 6, 7, 8, 9
TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8}


def q8_0(x):
    """Rows of whole blocks of 32 to blocks of a half and 32 bytes, as kern/encode.c does."""
    b = x.astype(np.float32).reshape(-1, 32)
    d = np.abs(b).max(1) / np.float32(127)
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    q = np.clip(np.rint(b * inverse[:, None]), -127, 127).astype(np.int8)
    out = np.empty((len(b), 34), np.uint8)
    out[:, :2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
    out[:, 2:] = q.view(np.uint8)
    return out.tobytes()


def q4_0(x):
    """Likewise: blocks of a half and 16 bytes; element i in the lower, i + 16 in the upper half of byte i."""
    b = x.astype(np.float32).reshape(-1, 32)
    far = b[np.arange(len(b)), np.abs(b).argmax(1)]
    d = (far / -8).astype(np.float16)
    scale = d.astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    q = np.clip(np.floor(b * inverse[:, None] + 8.5), 0, 15).astype(np.uint8)
    out = np.empty((len(b), 18), np.uint8)
    out[:, :2] = d.astype("<f2").view(np.uint8).reshape(-1, 2)
    out[:, 2:] = q[:, :16] | q[:, 16:] << 4
    return out.tobytes()


def encode(x, kind):
    if kind in ("Q4_0", "Q8_0") and x.shape[-1] % 32:
        kind = "F32"
    to = {"Q8_0": q8_0, "Q4_0": q4_0, "F16": lambda v: v.astype("<f2").tobytes(), "F32": lambda v: v.tobytes()}
    return kind, to[kind](x)


def _text(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def _value(v):
    if isinstance(v, bool):
        return struct.pack("<IB", BOOL, v)
    if isinstance(v, int):
        return struct.pack("<II", U32, v)
    if isinstance(v, float):
        return struct.pack("<If", F32, v)
    if isinstance(v, str):
        return struct.pack("<I", TEXT) + _text(v)
    if isinstance(v[0], str):
        return struct.pack("<IIQ", ARRAY, TEXT, len(v)) + b"".join(map(_text, v))
    return struct.pack("<IIQ", ARRAY, I32, len(v)) + np.asarray(v, "<i4").tobytes()


def vocabulary(tokens):
    """Metadata of an uncased WordPiece vocabulary in its usual spelling."""
    def spell(t):
        if t.startswith("[") and t.endswith("]") and len(t) > 2:
            return t
        return t[2:] if t.startswith("##") and len(t) > 2 else MARK + t

    kinds = [2 if t == "[UNK]" else 3 if spell(t) == t and t[0] == "[" and len(t) > 2 else 1 for t in tokens]
    at = {t: i for i, t in enumerate(tokens)}
    return {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [spell(t) for t in tokens],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.unknown_token_id": at["[UNK]"],
        "tokenizer.ggml.seperator_token_id": at["[SEP]"],
        "tokenizer.ggml.padding_token_id": at["[PAD]"],
        "tokenizer.ggml.cls_token_id": at["[CLS]"],
        "tokenizer.ggml.mask_token_id": at["[MASK]"],
        "tokenizer.ggml.normalizer.lowercase": True,
        "tokenizer.ggml.normalizer.strip_accents": True,
    }


def write(path, meta, tensors):
    """tensors: (name, float array of one or two dimensions, a name of TYPES)."""
    head, data = [], []
    at = 0
    for name, x, kind in tensors:
        x = np.ascontiguousarray(x, np.float32)
        kind, raw = encode(x, kind)
        dims = x.shape[::-1]
        head.append(_text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) +
                    struct.pack("<IQ", TYPES[kind], at))
        pad = -len(raw) % ALIGN
        data.append(raw + b"\0" * pad)
        at += len(raw) + pad
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta))
    out += b"".join(_text(k) + _value(v) for k, v in meta.items()) + b"".join(head)
    with open(path, "wb") as f:
        f.write(out + b"\0" * (-len(out) % ALIGN))
        f.writelines(data)

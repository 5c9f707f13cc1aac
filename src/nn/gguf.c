/* SPDX-License-Identifier: Apache-2.0
 * nn/gguf.c - the GGUF reader: metadata and a directory of tensors.
 *
 *   magic "GGUF" | version u32 | tensors u64 | pairs u64
 *   pair:    key (u64 length, bytes) | type u32 | value
 *   tensor:  name (u64 length, bytes) | dims u32 | dims x u64 | type u32 | offset u64
 *   padding to general.alignment | data, each tensor at its offset from here
 *
 * One pass over a window of the file, with a position that never passes the size; each count is
 * held against both its maximum and what the rest of the file could hold at least, before memory
 * for it is taken: a file of n bytes never costs more than about 8 n. Values are copied out, so
 * that nothing read twice can differ. docs/formats/gguf.md lists the maxima and the keys we use.
 *
 * More is refused than the format's text asks for: repeated keys and names (which of them counts?),
 * truth values other than 0 and 1, empty dimensions. Less is: tensors may share bytes (tied
 * weights), and may lie in any order.
 *
 * Source: the GGUF page of the ggml project's documentation. Version 1 (32-bit counts) and
 * big-endian files are refused; nobody has made them since 2023.
 */
#include "nn/nn_int.h"

#include <math.h>
#include <stdio.h>

#define WINDOW     LR_KIB(64)
#define PAIR_MIN   14u /* bytes: an empty key does not exist, a value has one byte */
#define TENSOR_MIN 33u /* bytes: a name of one byte, one dimension */

struct lr_nn_gguf {
    struct lr_nn_file file;
    struct lr_arena arena; /* everything below but the slots of names */
    uint32_t version, align;
    size_t n_kv, n_tensors;
    struct lr_nn_kv *kv;
    struct lr_str *keys; /* (n_kv) */
    struct lr_nn_names key_names;
    struct lr_nn_tensor *tensors;
    uint64_t *offsets;           /* (n_tensors) from the start of data */
    struct lr_str *tensor_texts; /* (n_tensors) */
    struct lr_nn_names tensor_names;
};

struct reader {
    struct lr_nn_gguf *g;
    uint64_t pos;
    uint64_t window_at;
    size_t window_n;
    uint8_t *window; /* WINDOW bytes */
    struct lr_err *err;
    char where[120];
};

#define FAIL(r, rc, ...) lr_err_set((r)->err, rc, (r)->where, __VA_ARGS__)

/* Where we are, for messages: "metadata key 'x'". */
static void at_name(struct reader *r, const char *what, struct lr_str name)
{
    struct lr_nn_shown s = lr_nn_show(name);
    if (snprintf(r->where, sizeof r->where, "%s '%s'", what, s.z) < 0)
        r->where[0] = 0; /* cannot be: the format is ours */
}

static void at_number(struct reader *r, const char *what, size_t i)
{
    if (snprintf(r->where, sizeof r->where, "%s number %zu", what, i) < 0)
        r->where[0] = 0; /* cannot be: the format is ours */
}

static uint64_t left(const struct reader *r)
{
    return r->g->file.size - r->pos;
}

static int need(struct reader *r, uint64_t n)
{
    if (n <= left(r))
        return 0;
    return FAIL(r, LR_EPARSE, "the file ends here: %llu bytes are left of at least %llu",
                (unsigned long long)left(r), (unsigned long long)n);
}

/* n <= WINDOW bytes at the position, which moves on; valid until the next take. */
static int take(struct reader *r, size_t n, const uint8_t **out)
{
    LR_TRY(need(r, n));
    if (r->pos < r->window_at || r->pos + n > r->window_at + r->window_n) {
        size_t fill = left(r) < WINDOW ? (size_t)left(r) : WINDOW;
        int rc = lr_nn_file_pread(&r->g->file, r->pos, r->window, fill);
        if (rc)
            return FAIL(r, rc, "cannot be read: %s", lr_strerror(rc));
        r->window_at = r->pos;
        r->window_n = fill;
    }
    *out = r->window + (r->pos - r->window_at);
    r->pos += n;
    return 0;
}

static int take_u32(struct reader *r, uint32_t *out)
{
    const uint8_t *p;
    LR_TRY(take(r, 4, &p));
    *out = lr_le32(p);
    return 0;
}

static int take_u64(struct reader *r, uint64_t *out)
{
    const uint8_t *p;
    LR_TRY(take(r, 8, &p));
    *out = lr_le64(p);
    return 0;
}

/* n bytes at the position copied to dst. */
static int copy(struct reader *r, void *dst, size_t n)
{
    uint8_t *to = dst;
    LR_TRY(need(r, n));
    while (n) {
        size_t k = n < WINDOW ? n : WINDOW;
        const uint8_t *p;
        LR_TRY(take(r, k, &p));
        memcpy(to, p, k);
        to += k;
        n -= k;
    }
    return 0;
}

static int room(struct reader *r, size_t n, size_t size, void *out)
{
    struct lr_arena *a = &r->g->arena;
    size_t bytes;
    if (lr_mul_over(n, size, &bytes) || bytes > a->max - a->used)
        return FAIL(r, LR_EOVER, "metadata needs over %zu MiB of memory", LR_NN_META_MAX >> 20);
    void *p = lr_arena_alloc(a, bytes ? bytes : 1, 8);
    if (!p)
        return FAIL(r, LR_ENOMEM, "out of memory");
    memset(p, 0, bytes);
    memcpy(out, &p, sizeof p);
    return 0;
}

/* A text of at most max bytes into the arena; out->p is never NULL. */
static int take_text(struct reader *r, const char *what, uint64_t max, struct lr_str *out)
{
    uint64_t n;
    char *p = NULL;
    LR_TRY(take_u64(r, &n));
    LR_TRY(need(r, n));
    if (n > max)
        return FAIL(r, LR_EOVER, "%s of %llu bytes, at most %llu are read", what,
                    (unsigned long long)n, (unsigned long long)max);
    LR_TRY(room(r, (size_t)n, 1, &p));
    LR_TRY(copy(r, p, (size_t)n));
    *out = lr_str(p, (size_t)n);
    return 0;
}

/* ---- values ---- */

/* Bytes of a number; 0 for texts and arrays. */
static const uint8_t number_bytes[LR_NN_KV_TYPES] = {
    [LR_NN_KV_U8] = 1,  [LR_NN_KV_I8] = 1,  [LR_NN_KV_U16] = 2, [LR_NN_KV_I16] = 2,
    [LR_NN_KV_U32] = 4, [LR_NN_KV_I32] = 4, [LR_NN_KV_F32] = 4, [LR_NN_KV_BOOL] = 1,
    [LR_NN_KV_U64] = 8, [LR_NN_KV_I64] = 8, [LR_NN_KV_F64] = 8};

static const char *const type_names[LR_NN_KV_TYPES] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "text", "array", "u64", "i64", "f64"};

size_t lr_nn_kv_bytes(enum lr_nn_kv_type type)
{
    return number_bytes[type];
}

static int take_type(struct reader *r, enum lr_nn_kv_type *out)
{
    uint32_t type;
    LR_TRY(take_u32(r, &type));
    if (type >= LR_NN_KV_TYPES)
        return FAIL(r, LR_EPARSE, "unknown value type %u", type);
    *out = (enum lr_nn_kv_type)type;
    return 0;
}

/* n numbers or texts of the type kv->elem into kv->data. */
static int take_values(struct reader *r, struct lr_nn_kv *kv)
{
    size_t n = kv->n;
    if (kv->elem == LR_NN_KV_TEXT) {
        struct lr_str *texts = NULL;
        LR_TRY(room(r, n, sizeof *texts, &texts));
        for (size_t i = 0; i < n; i++)
            LR_TRY(take_text(r, "text", LR_NN_TEXT_MAX, &texts[i]));
        kv->data = texts;
        return 0;
    }
    uint8_t *p = NULL;
    LR_TRY(room(r, n, number_bytes[kv->elem], &p));
    LR_TRY(copy(r, p, n * number_bytes[kv->elem]));
    for (size_t i = 0; kv->elem == LR_NN_KV_BOOL && i < n; i++)
        if (p[i] > 1)
            return FAIL(r, LR_EPARSE, "truth value %u", p[i]);
    kv->data = p;
    return 0;
}

/* Head of an array: what of, and how many, which the file can hold. */
static int take_array_head(struct reader *r, enum lr_nn_kv_type *elem, size_t *n)
{
    uint64_t count;
    LR_TRY(take_type(r, elem));
    LR_TRY(take_u64(r, &count));
    uint64_t each = *elem == LR_NN_KV_TEXT ? 8 : *elem == LR_NN_KV_ARRAY ? 12 : number_bytes[*elem];
    if (count > LR_NN_ARRAY_MAX)
        return FAIL(r, LR_EOVER, "array of %llu elements, at most %u are read",
                    (unsigned long long)count, LR_NN_ARRAY_MAX);
    LR_TRY(need(r, count * each)); /* below 2^28 */
    *n = (size_t)count;
    return 0;
}

/* Passes over n arrays, `depth` levels in; recursion ends at LR_NN_NEST_MAX. */
static int pass_arrays(struct reader *r, size_t n, unsigned depth)
{
    if (depth > LR_NN_NEST_MAX)
        return FAIL(r, LR_EOVER, "arrays nested deeper than %u", LR_NN_NEST_MAX);
    for (size_t i = 0; i < n; i++) {
        enum lr_nn_kv_type elem;
        size_t count;
        uint64_t len;
        LR_TRY(take_array_head(r, &elem, &count));
        if (elem == LR_NN_KV_ARRAY)
            LR_TRY(pass_arrays(r, count, depth + 1));
        else if (elem != LR_NN_KV_TEXT)
            r->pos += count * number_bytes[elem];
        else
            for (size_t k = 0; k < count; k++) {
                LR_TRY(take_u64(r, &len));
                LR_TRY(need(r, len));
                r->pos += len;
            }
    }
    return 0;
}

static int take_pair(struct reader *r, size_t i)
{
    struct lr_nn_gguf *g = r->g;
    struct lr_nn_kv *kv = &g->kv[i];
    at_number(r, "metadata key", i);
    LR_TRY(take_text(r, "key", LR_NN_KEY_MAX, &kv->key));
    if (!kv->key.n)
        return FAIL(r, LR_EPARSE, "empty key");
    at_name(r, "metadata key", kv->key);
    g->keys[i] = kv->key;
    if (lr_nn_names_put(&g->key_names, (uint32_t)i) != i)
        return FAIL(r, LR_EPARSE, "occurs twice");
    LR_TRY(take_type(r, &kv->type));
    kv->elem = kv->type;
    kv->n = 1;
    if (kv->type == LR_NN_KV_ARRAY)
        LR_TRY(take_array_head(r, &kv->elem, &kv->n));
    return kv->elem == LR_NN_KV_ARRAY ? pass_arrays(r, kv->n, 2) : take_values(r, kv);
}

/* ---- tensors ---- */

static int take_tensor_type(struct reader *r, struct lr_nn_tensor *t)
{
    uint32_t number;
    LR_TRY(take_u32(r, &number));
    if (!lr_nn_ggml_type(number, &t->type))
        return 0;
    const char *name = lr_nn_ggml_name(number);
    if (name)
        return FAIL(r, LR_EUNSUPPORTED, "type %s is not supported", name);
    return FAIL(r, LR_EUNSUPPORTED, "unknown type number %u", number);
}

static int take_tensor(struct reader *r, size_t i)
{
    struct lr_nn_gguf *g = r->g;
    struct lr_nn_tensor *t = &g->tensors[i];
    at_number(r, "tensor", i);
    LR_TRY(take_text(r, "name", LR_NN_NAME_MAX, &t->name));
    if (!t->name.n)
        return FAIL(r, LR_EPARSE, "empty name");
    at_name(r, "tensor", t->name);
    g->tensor_texts[i] = t->name;
    if (lr_nn_names_put(&g->tensor_names, (uint32_t)i) != i)
        return FAIL(r, LR_EPARSE, "occurs twice");
    LR_TRY(take_u32(r, &t->dims));
    if (t->dims < 1 || t->dims > LR_NN_DIMS)
        return FAIL(r, LR_EPARSE, "%u dimensions, 1 to %u are allowed", t->dims, LR_NN_DIMS);
    for (uint32_t d = 0; d < t->dims; d++) {
        LR_TRY(take_u64(r, &t->ne[d]));
        if (!t->ne[d])
            return FAIL(r, LR_EPARSE, "dimension %u is 0", d);
    }
    LR_TRY(take_tensor_type(r, t));
    LR_TRY(take_u64(r, &g->offsets[i]));
    int rc = lr_nn_tensor_size(t);
    if (rc == LR_EOVER)
        return FAIL(r, LR_EPARSE, "dimensions overflow");
    if (rc)
        return FAIL(r, LR_EPARSE, "rows of %llu elements are no whole blocks of %s",
                    (unsigned long long)t->ne[0], lr_nn_type_info(t->type)->name);
    return 0;
}

/* After the directory: where the data is, and that every tensor is in it. */
static int place_tensors(struct reader *r)
{
    struct lr_nn_gguf *g = r->g;
    uint64_t start = (r->pos + g->align - 1) / g->align * g->align; /* pos <= 2^63: no overflow */
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct lr_nn_tensor *t = &g->tensors[i];
        uint64_t off = g->offsets[i];
        struct lr_nn_shown s = lr_nn_show(t->name);
        if (snprintf(r->where, sizeof r->where, "tensor '%s' offset", s.z) < 0)
            r->where[0] = 0; /* cannot be: the format is ours */
        if (off % g->align)
            return FAIL(r, LR_EPARSE, "%llu is no multiple of the alignment %u",
                        (unsigned long long)off, g->align);
        uint64_t size = start < g->file.size ? g->file.size - start : 0;
        if (t->bytes > size || off > size - t->bytes)
            return FAIL(r, LR_EPARSE, "%llu plus %llu bytes, the file has %llu bytes of data",
                        (unsigned long long)off, (unsigned long long)t->bytes,
                        (unsigned long long)size);
        t->data = g->file.data + start + off;
    }
    return 0;
}

/* ---- the whole ---- */

static int take_head(struct reader *r, uint64_t *n_tensors, uint64_t *n_kv)
{
    const uint8_t *p;
    struct lr_nn_gguf *g = r->g;
    LR_TRY(take(r, 4, &p));
    if (memcmp(p, "GGUF", 4) != 0)
        return FAIL(r, LR_EPARSE, "not a GGUF file");
    LR_TRY(take_u32(r, &g->version));
    if (g->version && !(g->version & 0xFFFF))
        return FAIL(r, LR_EVERSION, "big-endian file");
    if (g->version < 2 || g->version > 3)
        return FAIL(r, LR_EVERSION, "GGUF version %u, 2 and 3 are read", g->version);
    LR_TRY(take_u64(r, n_tensors));
    LR_TRY(take_u64(r, n_kv));
    if (*n_tensors > LR_NN_TENSORS_MAX)
        return FAIL(r, LR_EOVER, "%llu tensors, at most %u are read",
                    (unsigned long long)*n_tensors, LR_NN_TENSORS_MAX);
    if (*n_kv > LR_NN_KEYS_MAX)
        return FAIL(r, LR_EOVER, "%llu metadata keys, at most %u are read",
                    (unsigned long long)*n_kv, LR_NN_KEYS_MAX);
    return need(r, *n_kv * PAIR_MIN + *n_tensors * TENSOR_MIN);
}

static int take_alignment(struct reader *r)
{
    uint64_t align = 32;
    int rc = lr_nn_gguf_u64(r->g, "general.alignment", &align, r->err);
    LR_FAIL_IF(rc && rc != LR_ENOENT, rc);
    at_name(r, "metadata key", LR_STR("general.alignment"));
    if (align < 8 || align > LR_NN_ALIGN_MAX || (align & (align - 1)))
        return FAIL(r, LR_EPARSE, "%llu is no power of two from 8 to %zu",
                    (unsigned long long)align, LR_NN_ALIGN_MAX);
    r->g->align = (uint32_t)align;
    return 0;
}

static int take_pairs(struct reader *r, uint64_t n)
{
    struct lr_nn_gguf *g = r->g;
    LR_TRY(room(r, (size_t)n, sizeof *g->kv, &g->kv));
    LR_TRY(room(r, (size_t)n, sizeof *g->keys, &g->keys));
    if (lr_nn_names_open(&g->key_names, g->keys, (size_t)n))
        return FAIL(r, LR_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        LR_TRY(take_pair(r, i));
    g->n_kv = (size_t)n;
    return take_alignment(r);
}

static int take_tensors(struct reader *r, uint64_t n)
{
    struct lr_nn_gguf *g = r->g;
    LR_TRY(room(r, (size_t)n, sizeof *g->tensors, &g->tensors));
    LR_TRY(room(r, (size_t)n, sizeof *g->offsets, &g->offsets));
    LR_TRY(room(r, (size_t)n, sizeof *g->tensor_texts, &g->tensor_texts));
    if (lr_nn_names_open(&g->tensor_names, g->tensor_texts, (size_t)n))
        return FAIL(r, LR_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++)
        LR_TRY(take_tensor(r, i));
    g->n_tensors = (size_t)n;
    return place_tensors(r);
}

static int parse(struct lr_nn_gguf *g, struct lr_err *err)
{
    uint64_t n_tensors, n_kv;
    struct reader r = {.g = g, .err = err, .where = "header"};
    lr_arena_init(&g->arena, LR_NN_META_MAX);
    r.window = lr_alloc(WINDOW);
    if (!r.window)
        return FAIL(&r, LR_ENOMEM, "out of memory");
    int rc = take_head(&r, &n_tensors, &n_kv);
    if (!rc)
        rc = take_pairs(&r, n_kv);
    if (!rc)
        rc = take_tensors(&r, n_tensors);
    if (!rc) /* what was read is of one state of the file */
        rc = lr_nn_file_check(&g->file, err);
    lr_free(r.window);
    return rc;
}

static int open_file(struct lr_nn_gguf **out, const char *path, struct lr_str bytes,
                     const struct lr_nn_file_opts *opts, struct lr_err *err)
{
    struct lr_nn_gguf *g = lr_new(struct lr_nn_gguf);
    int rc = 0;
    if (!g)
        return lr_err_set(err, LR_ENOMEM, "file", "out of memory");
    if (path)
        rc = lr_nn_file_open(&g->file, path, opts, err);
    else
        lr_nn_file_mem(&g->file, bytes);
    if (rc) {
        lr_free(g);
        return rc;
    }
    rc = parse(g, err);
    if (rc) {
        lr_nn_gguf_close(g);
        return rc;
    }
    *out = g;
    return 0;
}

int lr_nn_gguf_open(struct lr_nn_gguf **out, const char *path, const struct lr_nn_file_opts *opts,
                    struct lr_err *err)
{
    return open_file(out, path, (struct lr_str){NULL, 0}, opts, err);
}

int lr_nn_gguf_open_mem(struct lr_nn_gguf **out, struct lr_str bytes, struct lr_err *err)
{
    return open_file(out, NULL, bytes, NULL, err);
}

void lr_nn_gguf_close(struct lr_nn_gguf *g)
{
    if (!g)
        return;
    lr_nn_names_close(&g->key_names);
    lr_nn_names_close(&g->tensor_names);
    lr_arena_free(&g->arena);
    lr_nn_file_close(&g->file);
    lr_free(g);
}

int lr_nn_gguf_check(const struct lr_nn_gguf *g, struct lr_err *err)
{
    return lr_nn_file_check(&g->file, err);
}

/* ---- access ---- */

uint32_t lr_nn_gguf_version(const struct lr_nn_gguf *g)
{
    return g->version;
}

size_t lr_nn_gguf_keys(const struct lr_nn_gguf *g)
{
    return g->n_kv;
}

const struct lr_nn_kv *lr_nn_gguf_key(const struct lr_nn_gguf *g, size_t i)
{
    return &g->kv[i];
}

const struct lr_nn_kv *lr_nn_gguf_find(const struct lr_nn_gguf *g, const char *key)
{
    uint32_t i = lr_nn_names_find(&g->key_names, lr_strz(key));
    return i == LR_NN_NO_TOKEN ? NULL : &g->kv[i];
}

size_t lr_nn_gguf_tensors(const struct lr_nn_gguf *g)
{
    return g->n_tensors;
}

const struct lr_nn_tensor *lr_nn_gguf_at(const struct lr_nn_gguf *g, size_t i)
{
    return &g->tensors[i];
}

const struct lr_nn_tensor *lr_nn_gguf_tensor(const struct lr_nn_gguf *g, const char *name)
{
    uint32_t i = lr_nn_names_find(&g->tensor_names, lr_strz(name));
    return i == LR_NN_NO_TOKEN ? NULL : &g->tensors[i];
}

bool lr_nn_kv_i64(const struct lr_nn_kv *kv, size_t i, int64_t *out)
{
    if (!number_bytes[kv->elem])
        return false;
    const uint8_t *p = (const uint8_t *)kv->data + i * number_bytes[kv->elem];
    uint64_t u;
    switch (kv->elem) {
    case LR_NN_KV_U8:
        *out = *p;
        return true;
    case LR_NN_KV_I8:
        *out = (int8_t)*p;
        return true;
    case LR_NN_KV_U16:
        *out = lr_le16(p);
        return true;
    case LR_NN_KV_I16:
        *out = (int16_t)lr_le16(p);
        return true;
    case LR_NN_KV_U32:
        *out = lr_le32(p);
        return true;
    case LR_NN_KV_I32:
        *out = (int32_t)lr_le32(p);
        return true;
    case LR_NN_KV_I64:
    case LR_NN_KV_U64:
        u = lr_le64(p);
        if (kv->elem == LR_NN_KV_U64 && u > INT64_MAX)
            return false;
        *out = (int64_t)u;
        return true;
    default:
        return false;
    }
}

bool lr_nn_kv_u64(const struct lr_nn_kv *kv, size_t i, uint64_t *out)
{
    int64_t v;
    if (kv->elem == LR_NN_KV_U64) {
        *out = lr_le64((const uint8_t *)kv->data + i * 8);
        return true;
    }
    if (!lr_nn_kv_i64(kv, i, &v) || v < 0)
        return false;
    *out = (uint64_t)v;
    return true;
}

bool lr_nn_kv_real(const struct lr_nn_kv *kv, size_t i, double *out)
{
    if (!number_bytes[kv->elem])
        return false;
    const uint8_t *p = (const uint8_t *)kv->data + i * number_bytes[kv->elem];
    int64_t v;
    float f;
    if (kv->elem == LR_NN_KV_F32) {
        memcpy(&f, p, 4);
        *out = (double)f;
    } else if (kv->elem == LR_NN_KV_F64) {
        memcpy(out, p, 8);
    } else if (lr_nn_kv_i64(kv, i, &v)) {
        *out = (double)v;
    } else {
        return false;
    }
    return true;
}

/* The scalar of that key. */
static int scalar(const struct lr_nn_gguf *g, const char *key, const struct lr_nn_kv **out)
{
    *out = lr_nn_gguf_find(g, key);
    return *out ? 0 : LR_ENOENT;
}

static int misfit(const struct lr_nn_kv *kv, const char *wanted, struct lr_err *err)
{
    char where[120];
    struct lr_nn_shown s = lr_nn_show(kv->key);
    if (snprintf(where, sizeof where, "metadata key '%s'", s.z) < 0)
        where[0] = 0; /* cannot be: the format is ours */
    return lr_err_set(err, LR_EINVAL, where, "holds %s (%s), wanted %s",
                      kv->type == LR_NN_KV_ARRAY ? "an array" : "another value",
                      type_names[kv->elem], wanted);
}

int lr_nn_gguf_u64(const struct lr_nn_gguf *g, const char *key, uint64_t *out, struct lr_err *err)
{
    const struct lr_nn_kv *kv;
    LR_TRY(scalar(g, key, &kv));
    if (kv->type == LR_NN_KV_ARRAY || !lr_nn_kv_u64(kv, 0, out))
        return misfit(kv, "an integer from 0", err);
    return 0;
}

int lr_nn_gguf_i64(const struct lr_nn_gguf *g, const char *key, int64_t *out, struct lr_err *err)
{
    const struct lr_nn_kv *kv;
    LR_TRY(scalar(g, key, &kv));
    if (kv->type == LR_NN_KV_ARRAY || !lr_nn_kv_i64(kv, 0, out))
        return misfit(kv, "an integer", err);
    return 0;
}

int lr_nn_gguf_real(const struct lr_nn_gguf *g, const char *key, double *out, struct lr_err *err)
{
    const struct lr_nn_kv *kv;
    double v;
    LR_TRY(scalar(g, key, &kv));
    if (kv->type == LR_NN_KV_ARRAY || !lr_nn_kv_real(kv, 0, &v) || !isfinite(v))
        return misfit(kv, "a finite number", err);
    *out = v;
    return 0;
}

int lr_nn_gguf_bool(const struct lr_nn_gguf *g, const char *key, bool *out, struct lr_err *err)
{
    const struct lr_nn_kv *kv;
    LR_TRY(scalar(g, key, &kv));
    if (kv->type != LR_NN_KV_BOOL)
        return misfit(kv, "true or false", err);
    *out = *(const uint8_t *)kv->data != 0;
    return 0;
}

int lr_nn_gguf_text(const struct lr_nn_gguf *g, const char *key, struct lr_str *out,
                    struct lr_err *err)
{
    const struct lr_nn_kv *kv;
    LR_TRY(scalar(g, key, &kv));
    if (kv->type != LR_NN_KV_TEXT)
        return misfit(kv, "a text", err);
    *out = *(const struct lr_str *)kv->data;
    return 0;
}

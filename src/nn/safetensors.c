/* SPDX-License-Identifier: Apache-2.0
 * nn/safetensors.c - the safetensors reader: a JSON header, then bytes.
 *
 *   u64 n | n bytes of JSON | data
 *   {"__metadata__": {"format": "pt"},
 *    "embed": {"dtype": "F16", "shape": [30522, 384], "data_offsets": [0, 23440896]}, ...}
 *
 * The header goes through the house's JSON reader (duplicate names are refused there). Each
 * tensor's bytes must be exactly what type and shape say, and all together must cover the data
 * without a gap or an overlap: sorted by begin, each begins where the one before ends, and the last
 * ends with the file. So no byte of the file can hide anything, which is the format's own rule.
 *
 * The shape is outermost dimension first; ours is the other way round (ne[0] contiguous). Writers
 * have padded the header to 8 bytes since 2023; an older file whose data is not aligned to its
 * elements is refused, since kernels read whole elements.
 *
 * Source: the format section of the safetensors project's README.
 */
#include "nn/nn_int.h"

#include <stdio.h>
#include <stdlib.h>

#define NODES_MAX (1u << 21) /* JSON values in a header: about 12 a tensor */

struct lr_nn_st {
    struct lr_nn_file file;
    struct lr_arena arena; /* everything below but the slots of names */
    size_t n;
    struct lr_nn_tensor *tensors;
    struct lr_str *texts; /* (n) */
    struct lr_nn_names names;
    const struct lr_json *meta; /* or NULL */
};

struct place { /* of a tensor's bytes, from the start of data */
    uint64_t begin, end;
    size_t i;
};

static int fail(struct lr_err *err, int rc, const struct lr_nn_tensor *t, const char *part,
                const char *what)
{
    char where[120];
    struct lr_nn_shown s = lr_nn_show(t->name);
    if (snprintf(where, sizeof where, "tensor '%s'%s%s", s.z, *part ? " " : "", part) < 0)
        where[0] = 0; /* cannot be: the format is ours */
    return lr_err_set(err, rc, where, "%s", what);
}

static int read_dtype(struct lr_nn_tensor *t, const struct lr_json *v, struct lr_err *err)
{
    static const char *const known[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16",
                                        "I8",  "U64", "U32", "U16",  "U8",  "BOOL"};
    struct lr_str name;
    if (!lr_json_text(v, &name))
        return fail(err, LR_EPARSE, t, "dtype", "missing, or no text");
    for (size_t i = 0; i < LR_COUNT(known); i++)
        if (lr_str_is(name, known[i]))
            return lr_nn_type_find(name, &t->type);
    char what[120];
    struct lr_nn_shown s = lr_nn_show(name);
    if (snprintf(what, sizeof what, "type %s is not supported", s.z) < 0)
        what[0] = 0; /* cannot be: the format is ours */
    return fail(err, LR_EUNSUPPORTED, t, "dtype", what);
}

static int read_shape(struct lr_nn_tensor *t, const struct lr_json *v, struct lr_err *err)
{
    if (!lr_json_is(v, LR_JSON_ARRAY))
        return fail(err, LR_EPARSE, t, "shape", "missing, or no array");
    if (v->n > LR_NN_DIMS)
        return fail(err, LR_EUNSUPPORTED, t, "shape", "more than 4 dimensions");
    t->dims = v->n;
    uint32_t d = v->n;
    for (const struct lr_json *c = v->child; c; c = c->next)
        if (!lr_json_u64(c, &t->ne[--d]))
            return fail(err, LR_EPARSE, t, "shape", "a dimension is no integer from 0");
    if (lr_nn_tensor_size(t))
        return fail(err, LR_EPARSE, t, "shape", "dimensions overflow");
    return 0;
}

static int read_offsets(struct lr_nn_tensor *t, const struct lr_json *v, uint64_t size,
                        struct place *at, struct lr_err *err)
{
    if (!lr_json_is(v, LR_JSON_ARRAY) || v->n != 2 || !lr_json_u64(v->child, &at->begin) ||
        !lr_json_u64(v->child->next, &at->end))
        return fail(err, LR_EPARSE, t, "data_offsets", "missing, or not two integers from 0");
    if (at->begin > at->end || at->end > size)
        return fail(err, LR_EPARSE, t, "data_offsets", "beyond the end of the file, or backwards");
    if (at->end - at->begin != t->bytes)
        return fail(err, LR_EPARSE, t, "data_offsets", "not the bytes of its type and shape");
    return 0;
}

static int by_begin(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end != y->end ? (x->end < y->end ? -1 : 1) : 0; /* empty ones first */
}

/* Together they cover [0, size), each byte once. */
static int check_cover(const struct lr_nn_st *s, struct place *places, uint64_t size,
                       struct lr_err *err)
{
    uint64_t at = 0;
    qsort(places, s->n, sizeof *places, by_begin);
    for (size_t i = 0; i < s->n; i++) {
        if (places[i].begin != at)
            return fail(err, LR_EPARSE, &s->tensors[places[i].i], "data_offsets",
                        places[i].begin < at ? "overlap another tensor's bytes"
                                             : "leave a gap before them");
        at = places[i].end;
    }
    if (at != size)
        return lr_err_set(err, LR_EPARSE, "data", "%llu bytes belong to no tensor",
                          (unsigned long long)(size - at));
    return 0;
}

static int read_tensors(struct lr_nn_st *s, const struct lr_json *root, uint64_t start,
                        struct lr_err *err)
{
    uint64_t size = s->file.size - start;
    size_t max = root->n ? root->n : 1;
    struct place *places = lr_arena_array(&s->arena, struct place, max);
    s->tensors = lr_arena_array(&s->arena, struct lr_nn_tensor, max);
    s->texts = lr_arena_array(&s->arena, struct lr_str, max);
    if (!places || !s->tensors || !s->texts || lr_nn_names_open(&s->names, s->texts, max))
        return lr_err_set(err, LR_ENOMEM, "header", "out of memory");
    for (const struct lr_json *v = root->child; v; v = v->next) {
        struct lr_nn_tensor *t = &s->tensors[s->n];
        if (lr_str_is(v->key, "__metadata__"))
            continue;
        t->name = s->texts[s->n] = v->key;
        if (v->type != LR_JSON_OBJECT)
            return fail(err, LR_EPARSE, t, "", "no object");
        LR_TRY(read_dtype(t, lr_json_get(v, "dtype"), err));
        LR_TRY(read_shape(t, lr_json_get(v, "shape"), err));
        LR_TRY(read_offsets(t, lr_json_get(v, "data_offsets"), size, &places[s->n], err));
        places[s->n].i = s->n;
        t->data = s->file.data + start + places[s->n].begin;
        if ((uintptr_t)t->data % lr_nn_type_info(t->type)->block_bytes)
            return fail(err, LR_EUNSUPPORTED, t, "", "data is not aligned to its elements");
        lr_nn_names_put(&s->names, (uint32_t)s->n++);
    }
    return check_cover(s, places, size, err);
}

static int read_meta(struct lr_nn_st *s, const struct lr_json *root, struct lr_err *err)
{
    s->meta = lr_json_get(root, "__metadata__");
    if (s->meta && s->meta->type != LR_JSON_OBJECT)
        return lr_err_set(err, LR_EPARSE, "__metadata__", "no object");
    for (const struct lr_json *v = s->meta ? s->meta->child : NULL; v; v = v->next)
        if (v->type != LR_JSON_STRING)
            return lr_err_set(err, LR_EPARSE, "__metadata__", "holds something else than texts");
    return 0;
}

static int parse(struct lr_nn_st *s, struct lr_err *err)
{
    uint8_t head[8];
    uint64_t size = s->file.size;
    struct lr_json *root = NULL;
    struct lr_json_limits limits = {.depth_max = 8, .nodes_max = NODES_MAX};
    lr_arena_init(&s->arena, LR_NN_META_MAX);
    if (size < sizeof head)
        return lr_err_set(err, LR_EPARSE, "header", "the file is shorter than 8 bytes");
    int rc = lr_nn_file_pread(&s->file, 0, head, sizeof head);
    if (rc)
        return lr_err_set(err, rc, "header", "cannot be read: %s", lr_strerror(rc));
    uint64_t n = lr_le64(head);
    if (n > size - sizeof head)
        return lr_err_set(err, LR_EPARSE, "header", "of %llu bytes in a file of %llu",
                          (unsigned long long)n, (unsigned long long)size);
    if (n > LR_NN_HEADER_MAX)
        return lr_err_set(err, LR_EOVER, "header", "of %llu bytes, at most %zu are read",
                          (unsigned long long)n, LR_NN_HEADER_MAX);
    char *text = lr_arena_alloc(&s->arena, (size_t)n + 1, 8);
    if (!text)
        return lr_err_set(err, LR_ENOMEM, "header", "out of memory");
    rc = lr_nn_file_pread(&s->file, sizeof head, text, (size_t)n);
    if (rc)
        return lr_err_set(err, rc, "header", "cannot be read: %s", lr_strerror(rc));
    rc = lr_json_parse(&s->arena, lr_str(text, (size_t)n), &limits, &root, err);
    LR_FAIL_IF(rc, rc);
    if (root->type != LR_JSON_OBJECT || root->n > LR_NN_TENSORS_MAX)
        return lr_err_set(err, root->type == LR_JSON_OBJECT ? LR_EOVER : LR_EPARSE, "header",
                          "no JSON object of at most %u tensors", LR_NN_TENSORS_MAX);
    LR_TRY(read_meta(s, root, err));
    LR_TRY(read_tensors(s, root, sizeof head + n, err));
    return lr_nn_file_check(&s->file, err); /* what was read is of one state of the file */
}

static int open_file(struct lr_nn_st **out, const char *path, struct lr_str bytes,
                     const struct lr_nn_file_opts *opts, struct lr_err *err)
{
    struct lr_nn_st *s = lr_new(struct lr_nn_st);
    int rc = 0;
    if (!s)
        return lr_err_set(err, LR_ENOMEM, "file", "out of memory");
    if (path)
        rc = lr_nn_file_open(&s->file, path, opts, err);
    else
        lr_nn_file_mem(&s->file, bytes);
    if (rc) {
        lr_free(s);
        return rc;
    }
    rc = parse(s, err);
    if (rc) {
        lr_nn_st_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int lr_nn_st_open(struct lr_nn_st **out, const char *path, const struct lr_nn_file_opts *opts,
                  struct lr_err *err)
{
    return open_file(out, path, (struct lr_str){NULL, 0}, opts, err);
}

int lr_nn_st_open_mem(struct lr_nn_st **out, struct lr_str bytes, struct lr_err *err)
{
    return open_file(out, NULL, bytes, NULL, err);
}

void lr_nn_st_close(struct lr_nn_st *s)
{
    if (!s)
        return;
    lr_nn_names_close(&s->names);
    lr_arena_free(&s->arena);
    lr_nn_file_close(&s->file);
    lr_free(s);
}

int lr_nn_st_check(const struct lr_nn_st *s, struct lr_err *err)
{
    return lr_nn_file_check(&s->file, err);
}

size_t lr_nn_st_tensors(const struct lr_nn_st *s)
{
    return s->n;
}

const struct lr_nn_tensor *lr_nn_st_at(const struct lr_nn_st *s, size_t i)
{
    return &s->tensors[i];
}

const struct lr_nn_tensor *lr_nn_st_tensor(const struct lr_nn_st *s, const char *name)
{
    uint32_t i = lr_nn_names_find(&s->names, lr_strz(name));
    return i == LR_NN_NO_TOKEN ? NULL : &s->tensors[i];
}

struct lr_str lr_nn_st_text(const struct lr_nn_st *s, const char *key)
{
    struct lr_str text = {NULL, 0};
    return lr_json_text(lr_json_get(s->meta, key), &text) ? text : (struct lr_str){NULL, 0};
}

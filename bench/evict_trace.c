/* SPDX-License-Identifier: Apache-2.0
 * bench/evict_trace.c - a request trace with block hashes as a stream of blocks.
 *
 * One JSON object a line; "hash_ids" lists the blocks of the prompt (512 tokens each in Mooncake's
 * traces), each block is one request to one object of one byte and cost 1, in the order of the
 * lines. Other members are not looked at. Block numbers may be any u64; they are renumbered
 * densely.
 */
#include "evict.h"

#include <errno.h>
#include <stdio.h>

#define LINE_MAX_BYTES LR_MIB(16)
#define BLOCKS_MAX ((size_t)1 << 28) /* requests in one trace */

struct reader {
    struct bench_stream s;
    size_t cap;      /* of s.ids */
    uint64_t *names; /* hash table: block number + 1, 0 = free */
    uint32_t *dense; /* its object */
    size_t slots;    /* power of two, at most half full */
};

static size_t slot_of(const uint64_t *names, size_t slots, uint64_t name)
{
    size_t i = (size_t)((name * 0x9E3779B97F4A7C15ull) >> 20) & (slots - 1);
    while (names[i] && names[i] != name)
        i = (i + 1) & (slots - 1);
    return i;
}

static int grow_table(struct reader *r)
{
    size_t slots = r->slots ? 2 * r->slots : 4096;
    uint64_t *names = lr_calloc(slots, sizeof *names);
    uint32_t *dense = lr_calloc(slots, sizeof *dense);
    if (!names || !dense) {
        lr_free(names);
        lr_free(dense);
        return LR_ENOMEM;
    }
    for (size_t i = 0; i < r->slots; i++) {
        if (!r->names[i])
            continue;
        size_t at = slot_of(names, slots, r->names[i]);
        names[at] = r->names[i];
        dense[at] = r->dense[i];
    }
    lr_free(r->names);
    lr_free(r->dense);
    r->names = names;
    r->dense = dense;
    r->slots = slots;
    return 0;
}

static int add_block(struct reader *r, uint64_t block)
{
    LR_FAIL_IF(block == UINT64_MAX, LR_EOVER);
    LR_FAIL_IF(r->s.n >= BLOCKS_MAX, LR_EOVER);
    if (2 * (r->s.n_objs + 1) > r->slots)
        LR_TRY(grow_table(r));
    if (r->s.n == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 4096;
        uint32_t *ids = lr_realloc(r->s.ids, cap * sizeof *ids);
        LR_FAIL_IF(!ids, LR_ENOMEM);
        r->s.ids = ids;
        r->cap = cap;
    }
    size_t at = slot_of(r->names, r->slots, block + 1);
    if (!r->names[at]) {
        r->names[at] = block + 1;
        r->dense[at] = (uint32_t)r->s.n_objs++;
    }
    r->s.ids[r->s.n++] = r->dense[at];
    return 0;
}

static int add_line(struct reader *r, struct lr_arena *a, struct lr_str line, struct lr_err *err)
{
    struct lr_json *v;
    LR_TRY(lr_json_parse(a, line, NULL, &v, err));
    const struct lr_json *ids = lr_json_get(v, "hash_ids");
    if (!lr_json_is(ids, LR_JSON_ARRAY))
        return lr_err_set(err, LR_EPARSE, NULL, "no array hash_ids");
    for (const struct lr_json *b = ids->child; b; b = b->next) {
        uint64_t block;
        if (!lr_json_u64(b, &block))
            return lr_err_set(err, LR_EPARSE, NULL, "hash_ids holds something else than numbers");
        LR_TRY(add_block(r, block));
    }
    return 0;
}

static int read_lines(struct reader *r, FILE *f, struct lr_err *err)
{
    struct lr_arena a;
    lr_arena_init(&a, LR_GIB(1));
    char *line = lr_alloc(LINE_MAX_BYTES);
    int rc = line ? 0 : LR_ENOMEM;
    for (size_t at = 1; !rc && fgets(line, LINE_MAX_BYTES, f); at++) {
        struct lr_str text = lr_str_trim(lr_strz(line));
        if (text.n == 0)
            continue;
        struct lr_err here = {0};
        rc = add_line(r, &a, text, &here);
        if (rc) {
            char where[32];
            if (snprintf(where, sizeof where, "line %zu", at) > 0)
                lr_err_set(err, rc, where, "%s", here.code ? here.msg : lr_strerror(rc));
        }
        lr_arena_reset(&a);
    }
    if (!rc && ferror(f))
        rc = lr_io_rc(errno);
    lr_free(line);
    lr_arena_free(&a);
    return rc;
}

int bench_trace_read(const char *path, struct bench_stream *out, struct lr_err *err)
{
    bool piped = lr_str_is(lr_strz(path), "-");
    FILE *f = piped ? stdin : fopen(path, "r");
    LR_FAIL_IF(!f, lr_io_rc(errno));
    struct reader r = {0};
    int rc = read_lines(&r, f, err);
    if (!piped)
        fclose(f);
    if (!rc && r.s.n == 0)
        rc = lr_err_set(err, LR_EPARSE, NULL, "no block in it");
    if (!rc) {
        r.s.objs = lr_calloc(r.s.n_objs, sizeof *r.s.objs);
        rc = r.s.objs ? 0 : LR_ENOMEM;
    }
    for (size_t i = 0; !rc && i < r.s.n_objs; i++)
        r.s.objs[i] = (struct bench_obj){1, 1};
    if (!rc)
        rc = bench_stream_seal(&r.s);
    lr_free(r.names);
    lr_free(r.dense);
    if (rc)
        bench_stream_free(&r.s);
    else
        *out = r.s;
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 * vec/file.c - an index as a file: docs/formats/index.md has every byte.
 *
 *   header | block | block | ... | last block      block: length, bytes, sum
 *
 * Save runs on the writer's thread while readers search. It finishes the tidying first, so that
 * only live vectors are left, numbers them in the order in which a breadth-first walk from the
 * entry meets them (neighbours then lie near each other after a load), and streams them through one
 * block of memory into a file beside the old one, which it replaces at the end: a crash leaves one
 * or the other. Blocks are summed in a chain, each sum seeded with the one before: a missing,
 * doubled or exchanged block is damage as much as a changed byte.
 *
 * Load believes nothing: every count is held against its bound before it is used, memory grows with
 * what was read and not with what the header promises, links must name slots that exist and, on
 * upper levels, nodes that are there. What it returns has passed all of it; else nothing remains.
 *
 * Deviation from keeping the arrays as they are in memory and mapping them: a mapped file could not
 * be trusted without reading all of it anyway.
 */
#include "vec/vec_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { HEADER = 96, BLOCK = 65536, MAJOR = 1, MINOR = 0, FLAG_GRAPH = 1 };
static const char magic[4] = {'L', 'R', 'V', 'X'};

struct header {
    uint8_t type, flags;
    uint32_t dim, m, count, entry;
    uint64_t txn;
    uint8_t encoder[32];
    uint64_t sum;
};

/* ---- Writing ----------------------------------------------------------------------------------*/

struct sink {
    int fd;
    int rc; /* the first failure; later bytes are dropped */
    uint64_t sum;
    size_t n;
    uint8_t *block; /* BLOCK + 12 bytes */
};

static void flush(struct sink *s)
{
    if (s->rc || !s->n)
        return;
    lr_put_le32(s->block, (uint32_t)s->n);
    s->sum = lr_hash64(lr_str(s->block, 4 + s->n), s->sum);
    lr_put_le64(s->block + 4 + s->n, s->sum);
    s->rc = lr_io_write(s->fd, s->block, s->n + 12);
    s->n = 0;
}

static void put_bytes(struct sink *s, const void *p, size_t n)
{
    const uint8_t *at = p;
    while (n) {
        size_t k = BLOCK - s->n < n ? BLOCK - s->n : n;
        memcpy(s->block + 4 + s->n, at, k);
        s->n += k;
        at += k;
        n -= k;
        if (s->n == BLOCK)
            flush(s);
    }
}

/* The new order of slots, and each slot's place in it. */
struct order {
    uint32_t *slot, *place;
    uint32_t n;
};

static void visit(const struct lr_vec *v, struct order *o, uint32_t slot)
{
    if (o->place[slot] != VEC_NONE || vec_meta(v, vec_dir(v), slot)->state != SLOT_LIVE)
        return;
    o->place[slot] = o->n;
    o->slot[o->n++] = slot;
}

static int arrange(const struct lr_vec *v, bool graph, struct order *o)
{
    uint32_t n = atomic_load_explicit(&v->n, memory_order_relaxed);
    uint64_t entry = atomic_load_explicit(&v->entry, memory_order_relaxed);
    o->slot = lr_alloc(n * sizeof *o->slot);
    o->place = lr_alloc(n * sizeof *o->place);
    LR_FAIL_IF(!o->slot || !o->place, LR_ENOMEM);
    memset(o->place, 0xff, n * sizeof *o->place);
    if (graph && entry != VEC_NONE)
        visit(v, o, (uint32_t)entry);
    uint32_t next = 0;
    for (uint32_t done = 0; done < n; done++) {
        for (; graph && next < o->n; next++) {
            const _Atomic uint32_t *links = vec_links(v, vec_dir(v), o->slot[next]);
            for (unsigned i = 0; i < v->m0 && vec_get(&links[i]) != VEC_NONE; i++)
                visit(v, o, vec_get(&links[i]));
        }
        visit(v, o, done); /* what the walk does not reach, and all of a flat list */
    }
    return 0;
}

static void put_list(struct sink *s, const _Atomic uint32_t *links, size_t max,
                     const struct order *o)
{
    uint8_t list[1 + 4 * VEC_ROUND];
    size_t n = 0;
    for (size_t i = 0; i < max && vec_get(&links[i]) != VEC_NONE; i++)
        if (o->place[vec_get(&links[i])] != VEC_NONE)
            lr_put_le32(list + 1 + 4 * n++, o->place[vec_get(&links[i])]);
    list[0] = (uint8_t)n;
    put_bytes(s, list, 1 + 4 * n);
}

static void put_vectors(const struct lr_vec *v, struct sink *s, bool graph, const struct order *o,
                        uint8_t *record)
{
    struct dir *d = vec_dir(v);
    struct view w = {.v = v, .d = d, .up = vec_updir(v)};
    for (uint32_t i = 0; i < o->n && !s->rc; i++) {
        struct meta *m = vec_meta(v, d, o->slot[i]);
        uint8_t id[8], level = (uint8_t)m->level;
        lr_put_le64(id, m->id);
        put_bytes(s, id, sizeof id);
        vec_record_write(v, o->slot[i], record);
        put_bytes(s, record, vec_record_bytes(v));
        if (!graph)
            continue;
        put_bytes(s, &level, 1);
        for (unsigned l = 0; l <= level; l++)
            put_list(s, vec_links_of(&w, o->slot[i], l), l ? v->m : v->m0, o);
    }
    flush(s);
}

static void write_header(const struct lr_vec *v, struct sink *s, bool graph, uint64_t txn,
                         const struct order *o)
{
    uint8_t h[HEADER] = {0};
    uint64_t entry = atomic_load_explicit(&v->entry, memory_order_relaxed);
    memcpy(h, magic, sizeof magic);
    h[4] = MAJOR;
    h[5] = MINOR;
    h[6] = (uint8_t)v->o.type;
    h[7] = graph ? FLAG_GRAPH : 0;
    lr_put_le32(h + 8, v->o.dim);
    lr_put_le32(h + 12, v->m);
    lr_put_le32(h + 16, o->n);
    lr_put_le32(h + 20, graph && entry != VEC_NONE ? o->place[(uint32_t)entry] : VEC_NONE);
    lr_put_le64(h + 24, txn);
    memcpy(h + 32, v->o.encoder, sizeof v->o.encoder);
    s->sum = lr_hash64(lr_str(h, HEADER - 8), 0);
    lr_put_le64(h + HEADER - 8, s->sum);
    s->rc = lr_io_write(s->fd, h, HEADER);
}

static int save_to(const struct lr_vec *v, int fd, uint64_t txn)
{
    struct order o = {0};
    struct sink s = {.fd = fd, .block = lr_alloc(BLOCK + 12)};
    uint8_t *record = lr_alloc(vec_record_bytes(v));
    bool graph = atomic_load_explicit(&v->graph, memory_order_relaxed);
    int rc = s.block && record ? arrange(v, graph, &o) : LR_ENOMEM;
    if (!rc) {
        write_header(v, &s, graph, txn, &o);
        put_vectors(v, &s, graph, &o, record);
        rc = s.rc ? s.rc : lr_io_fsync(fd);
    }
    lr_free(o.slot);
    lr_free(o.place);
    lr_free(record);
    lr_free(s.block);
    return rc;
}

static int sync_parent(const char *path)
{
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    LR_FAIL_IF(n >= sizeof dir, LR_EOVER);
    memcpy(dir, path, n);
    dir[n] = 0;
    int fd;
    LR_TRY(lr_io_open(!slash ? "." : n ? dir : "/", O_RDONLY | O_DIRECTORY, 0, &fd));
    int rc = lr_io_fsync(fd);
    lr_io_close(fd);
    return rc;
}

int lr_vec_save(struct lr_vec *v, const char *path, uint64_t txn)
{
    char beside[4096];
    int fd, n = snprintf(beside, sizeof beside, "%s.new", path);
    LR_FAIL_IF(n < 0 || (size_t)n >= sizeof beside, LR_EOVER);
    if (atomic_load_explicit(&v->graph, memory_order_relaxed))
        vec_tidy_all(v);
    LR_TRY(lr_io_open(beside, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd));
    int rc = save_to(v, fd, txn);
    lr_io_close(fd);
    if (!rc)
        rc = lr_io_rename(beside, path);
    if (rc) {
        if (unlink(beside))
            lr_log(LR_LOG_WARN, "vec", "event=leftover_temporary");
        return rc;
    }
    return sync_parent(path);
}

/* ---- Reading ----------------------------------------------------------------------------------*/

struct source {
    int fd; /* -1: from `rest` */
    uint64_t off;
    struct lr_str rest;
    uint64_t sum;
    uint8_t *block;
    size_t at, n; /* of the payload in block */
};

static int raw(struct source *s, void *p, size_t n)
{
    if (s->fd >= 0) {
        LR_TRY(lr_io_pread(s->fd, p, n, s->off));
        s->off += n;
        return 0;
    }
    LR_FAIL_IF(n > s->rest.n, LR_ECORRUPT);
    memcpy(p, s->rest.p, n);
    s->rest = lr_str(s->rest.p + n, s->rest.n - n);
    return 0;
}

static int next_block(struct source *s)
{
    LR_TRY(raw(s, s->block, 4));
    size_t n = lr_le32(s->block);
    LR_FAIL_IF(n < 1 || n > BLOCK, LR_ECORRUPT);
    LR_TRY(raw(s, s->block + 4, n + 8));
    s->sum = lr_hash64(lr_str(s->block, 4 + n), s->sum);
    LR_FAIL_IF(lr_le64(s->block + 4 + n) != s->sum, LR_ECORRUPT);
    s->at = 0;
    s->n = n;
    return 0;
}

static int take(struct source *s, void *p, size_t n)
{
    uint8_t *to = p;
    while (n) {
        if (s->at == s->n)
            LR_TRY(next_block(s));
        size_t k = s->n - s->at < n ? s->n - s->at : n;
        memcpy(to, s->block + 4 + s->at, k);
        s->at += k;
        to += k;
        n -= k;
    }
    return 0;
}

static int at_end(const struct source *s)
{
    uint64_t size = s->off;
    if (s->fd >= 0)
        LR_TRY(lr_io_size(s->fd, &size));
    return s->at == s->n && size == s->off && !s->rest.n ? 0 : LR_ECORRUPT;
}

static int read_header(struct source *s, struct header *out)
{
    uint8_t h[HEADER];
    LR_TRY(raw(s, h, HEADER));
    LR_FAIL_IF(memcmp(h, magic, sizeof magic), LR_ECORRUPT);
    s->sum = lr_hash64(lr_str(h, HEADER - 8), 0);
    LR_FAIL_IF(lr_le64(h + HEADER - 8) != s->sum, LR_ECORRUPT);
    LR_FAIL_IF(h[4] != MAJOR || h[7] & ~FLAG_GRAPH, LR_EVERSION);
    *out = (struct header){.type = h[6],
                           .flags = h[7],
                           .dim = lr_le32(h + 8),
                           .m = lr_le32(h + 12),
                           .count = lr_le32(h + 16),
                           .entry = lr_le32(h + 20),
                           .txn = lr_le64(h + 24)};
    memcpy(out->encoder, h + 32, sizeof out->encoder);
    bool graph = h[7] & FLAG_GRAPH;
    LR_FAIL_IF(out->count > LR_VEC_MAX - VEC_UNIT, LR_ECORRUPT);
    LR_FAIL_IF(out->m < 4 || out->m > LR_VEC_M_MAX, LR_ECORRUPT);
    LR_FAIL_IF(graph && out->count ? out->entry >= out->count : out->entry != VEC_NONE,
               LR_ECORRUPT);
    return 0;
}

static int read_list(struct source *s, const struct header *h, uint32_t self,
                     _Atomic uint32_t *links, size_t max)
{
    uint8_t n, list[4 * VEC_ROUND];
    LR_TRY(take(s, &n, 1));
    LR_FAIL_IF(n > max, LR_ECORRUPT);
    LR_TRY(take(s, list, 4 * (size_t)n));
    for (size_t i = 0; i < n; i++) {
        uint32_t to = lr_le32(list + 4 * i);
        LR_FAIL_IF(to >= h->count || to == self, LR_ECORRUPT);
        atomic_store_explicit(&links[i], to, memory_order_relaxed);
    }
    return 0;
}

static int read_vector(struct lr_vec *v, struct source *s, const struct header *h, uint32_t slot,
                       uint8_t *record)
{
    bool graph = h->flags & FLAG_GRAPH;
    uint8_t id[8], level = (uint8_t)vec_level(v, slot);
    LR_TRY(take(s, id, sizeof id));
    LR_TRY(take(s, record, vec_record_bytes(v)));
    if (graph)
        LR_TRY(take(s, &level, 1));
    LR_FAIL_IF(level > VEC_LEVELS, LR_ECORRUPT);
    LR_TRY(vec_record_read(v, lr_le64(id), record, graph, level));
    struct view w = {.v = v, .d = vec_dir(v), .up = vec_updir(v)};
    for (unsigned l = 0; graph && l <= level; l++)
        LR_TRY(read_list(s, h, slot, vec_links_of(&w, slot, l), l ? v->m : v->m0));
    return 0;
}

/* Upper links lead to nodes of that level: those behind were not known while reading. */
static int check_upper(const struct lr_vec *v, uint32_t count)
{
    struct view w = {.v = v, .d = vec_dir(v), .up = vec_updir(v)};
    for (uint32_t s = 0; s < count; s++)
        for (unsigned l = 1; l <= vec_meta(v, w.d, s)->level; l++) {
            const _Atomic uint32_t *links = vec_links_of(&w, s, l);
            for (unsigned i = 0; i < v->m && vec_get(&links[i]) != VEC_NONE; i++)
                LR_FAIL_IF(vec_meta(v, w.d, vec_get(&links[i]))->level < l, LR_ECORRUPT);
        }
    return 0;
}

static int read_vectors(struct lr_vec *v, struct source *s, const struct header *h)
{
    int rc = 0;
    uint8_t *record = lr_alloc(vec_record_bytes(v));
    LR_FAIL_IF(!record, LR_ENOMEM);
    for (uint32_t i = 0; i < h->count && !rc; i++)
        rc = read_vector(v, s, h, i, record);
    lr_free(record);
    LR_TRY(rc);
    LR_TRY(at_end(s));
    LR_TRY(vec_reader_room(v->arena->own, v->cap)); /* deletes tidy, and cannot fail */
    if (!(h->flags & FLAG_GRAPH))
        return 0;
    LR_TRY(check_upper(v, h->count));
    v->linked = h->count;
    if (h->count) {
        uint64_t level = vec_meta(v, vec_dir(v), h->entry)->level;
        atomic_store_explicit(&v->entry, h->entry | level << 32, memory_order_release);
    }
    atomic_store_explicit(&v->graph, true, memory_order_release);
    return 0;
}

static int load(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct source *s,
                uint64_t txn_now, struct lr_vec **out, uint64_t *txn)
{
    struct header h;
    struct lr_vec *v;
    vec_reap(a);
    LR_TRY(read_header(s, &h));
    LR_FAIL_IF(h.dim != o->dim || h.type != (unsigned)o->type, LR_EVERSION);
    LR_FAIL_IF(memcmp(h.encoder, o->encoder, sizeof h.encoder), LR_EVERSION);
    LR_FAIL_IF(h.txn > txn_now || (o->m && o->m != h.m), LR_EVERSION);
    struct lr_vec_opts mine = *o;
    mine.m = h.m;
    LR_TRY(vec_make(a, &mine, &v));
    int rc = read_vectors(v, s, &h);
    if (rc) {
        vec_free(v); /* no reader has seen it */
        return rc;
    }
    *txn = h.txn;
    *out = v;
    return 0;
}

int lr_vec_load(struct lr_vec_arena *a, const struct lr_vec_opts *o, const char *path,
                uint64_t txn_now, struct lr_vec **out, uint64_t *txn)
{
    struct source s = {.fd = -1};
    int fd;
    LR_TRY(lr_io_open(path, O_RDONLY, 0, &fd));
    s.fd = fd;
    s.block = lr_alloc(BLOCK + 12);
    int rc = s.block ? load(a, o, &s, txn_now, out, txn) : LR_ENOMEM;
    lr_free(s.block);
    lr_io_close(fd);
    return rc;
}

int lr_vec_load_bytes(struct lr_vec_arena *a, const struct lr_vec_opts *o, struct lr_str bytes,
                      uint64_t txn_now, struct lr_vec **out, uint64_t *txn)
{
    struct source s = {.fd = -1, .rest = bytes, .block = lr_alloc(BLOCK + 12)};
    LR_FAIL_IF(!s.block, LR_ENOMEM);
    int rc = load(a, o, &s, txn_now, out, txn);
    lr_free(s.block);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 * engine/engine.c - an engine: threads, one block of scratch, the arena. All memory is taken here, at
 * once and as planned; a step allocates nothing but pages and the small tables that find them.
 *
 *   block   x | xn | tmp | q | att | k | v | gate | up | angles | lse | part | per thread: kern, q, ..
 *
 * Each part begins at a multiple of 64 bytes. The layout is computed by one function, once with no
 * memory to count and once to place, so that the plan cannot lie.
 */
#include "engine/engine_int.h"

#define PART_MAX ((size_t)4096) /* partial sums of (query head, span): 128 k rows of 32 heads */

struct placer {
    char *base; /* NULL: counting */
    size_t used;
    bool over;
};

static void *place(struct placer *p, uint64_t count, size_t size)
{
    size_t n;
    if (lr_mul_over((size_t)count, size, &n) || lr_add_over(n, 63, &n)) {
        p->over = true;
        return NULL;
    }
    char *at = p->base ? p->base + p->used : NULL;
    if (lr_add_over(p->used, n / 64 * 64, &p->used))
        p->over = true;
    return at;
}

static float *floats(struct placer *p, uint64_t rows, uint64_t n)
{
    return place(p, rows * n, sizeof(float));
}

static void lay_out(struct placer *p, const struct lr_engine_model *m, unsigned threads,
                    struct scratch *s)
{
    const struct lr_engine_shape *h = &m->shape;
    uint64_t t = LR_ENGINE_BATCH, q = (uint64_t)h->n_head * h->d_head;
    uint64_t kv = (uint64_t)h->n_kv * h->d_head, group = h->n_head / h->n_kv;
    uint64_t nq = group > BLOCK_QUERIES ? group : BLOCK_QUERIES;
    uint64_t longest = h->n_ff > h->n_embd ? h->n_ff : h->n_embd;
    longest = ((longest > q ? longest : q) + 31) / 32 * 32;
    *s = (struct scratch){.x = floats(p, t, h->n_embd), .xn = floats(p, t, h->n_embd)};
    s->tmp = floats(p, t, h->n_embd);
    s->q = floats(p, t, q);
    s->att = floats(p, t, q);
    s->k = floats(p, t, kv);
    s->v = floats(p, t, kv);
    s->gate = floats(p, t, h->n_ff);
    s->up = floats(p, t, h->n_ff);
    s->angles = floats(p, t, h->n_rot);
    s->lse = floats(p, t, h->n_head);
    s->part = floats(p, PART_MAX, h->d_head);
    s->part_soft = place(p, PART_MAX, sizeof *s->part_soft);
    s->part_max = PART_MAX;
    s->thread = place(p, threads, sizeof *s->thread);
    for (unsigned i = 0; i < threads; i++) {
        struct attn_scratch a = {.kern = place(p, 1, LR_KERN_SCRATCH)};
        a.act = place(p, FEW, lr_kern_act_bytes(longest));
        a.q = floats(p, nq, h->d_head);
        a.score = floats(p, nq, PIECE_ROWS);
        a.o = floats(p, 2 * nq, h->d_head);
        a.value = floats(p, PAGE_ROWS, h->d_head);
        a.soft = place(p, 2 * nq, sizeof *a.soft);
        if (s->thread)
            s->thread[i] = a;
    }
}

static unsigned threads_of(unsigned wanted)
{
    return wanted ? wanted : 1;
}

uint64_t lr_engine_scratch_bytes(const struct lr_engine_model *m, unsigned threads)
{
    struct placer p = {0};
    struct scratch s;
    lay_out(&p, m, threads_of(threads), &s);
    return p.over ? UINT64_MAX / 2 : p.used + 64;
}

static int open_scratch(struct lr_engine *e)
{
    struct placer p = {0};
    lay_out(&p, e->m, e->threads, &e->s);
    LR_FAIL_IF(p.over, LR_ENOMEM);
    void *block = lr_alloc(p.used + 64);
    LR_FAIL_IF(!block, LR_ENOMEM);
    p = (struct placer){.base = (char *)(((uintptr_t)block + 63) / 64 * 64)};
    lay_out(&p, e->m, e->threads, &e->s);
    e->s.block = block;
    return 0;
}

int lr_engine_open(struct lr_engine **out, const struct lr_engine_model *m,
                   const struct lr_engine_opts *o, struct lr_err *err)
{
    struct lr_engine_plan plan;
    if (o->threads > LR_ENGINE_THREADS_MAX)
        return lr_err_set(err, LR_EINVAL, "threads", "%u threads, at most %u", o->threads,
                          LR_ENGINE_THREADS_MAX);
    LR_TRY(lr_engine_plan(m, o, &plan, err));
    struct lr_engine *e = lr_new(struct lr_engine);
    LR_FAIL_IF(!e, lr_err_set(err, LR_ENOMEM, "engine", "out of memory"));
    e->m = m;
    e->k = lr_kern();
    e->codec = o->codec ? o->codec : lr_engine_codec_find(LR_STR("f16"));
    e->threads = threads_of(o->threads);
    lr_nn_thread_init();
    int rc = open_scratch(e);
    rc = rc ? rc : lr_engine_arena_open(&e->arena, plan.bytes_kv);
    rc = rc ? rc : lr_engine_team_open(&e->team, e->threads);
    if (rc) {
        lr_engine_close(e);
        return lr_err_set(err, rc, "engine", "scratch, arena or threads: %s", lr_strerror(rc));
    }
    *out = e;
    return 0;
}

void lr_engine_close(struct lr_engine *e)
{
    if (!e)
        return;
    assert(!e->seqs);
    lr_engine_team_close(e->team);
    lr_engine_arena_close(&e->arena);
    lr_free(e->s.block);
    lr_free(e);
}

const struct lr_engine_model *lr_engine_model(const struct lr_engine *e)
{
    return e->m;
}

void lr_engine_memory(const struct lr_engine *e, struct lr_engine_memory *out)
{
    const struct arena *a = &e->arena;
    *out = (struct lr_engine_memory){.bytes_max = a->granules * GRANULE,
                                     .bytes_used = a->used * GRANULE,
                                     .bytes_promised = a->promised * GRANULE,
                                     .bytes_warm = a->warm * GRANULE};
}

/* SPDX-License-Identifier: Apache-2.0
 * eval/kv.c - larder eval kv: what a KV policy saves and what it costs, on a model of one's own.
 *
 *   plan > open model > results.jsonl so far
 *        > for each job, mode, sample: prefill once, a fork per cell > controls > table and page
 *
 * Everything that decides is in the plan and the seed: two runs with the same file, lists and seed
 * give the same lines, but for those of system, which are times. Order matters for who stops early:
 * sample by sample through all cells, so that a killed run has complete pairs of everything it has.
 */
#include "eval/eval_int.h"

#include <fcntl.h>
#include <stdio.h>

static void tell(const struct eval_run *r, const char *line)
{
    if (r->opts->tell)
        r->opts->tell(r->opts->ctx, line);
}

/* ---- identity ---- */

#define SAMPLED LR_MIB(1)

/* A fingerprint of a file: size, first and last MiB. Enough to tell models apart, at no cost. */
static int fingerprint(const char *path, uint64_t *out, struct lr_err *err)
{
    int fd;
    uint64_t size = 0, h = 0;
    char *buf = lr_alloc(SAMPLED);
    if (!buf)
        return lr_err_set(err, LR_ENOMEM, "model", "out of memory");
    int rc = lr_io_open(path, O_RDONLY, 0, &fd);
    if (!rc) {
        rc = lr_io_size(fd, &size);
        size_t n = size < SAMPLED ? size : SAMPLED;
        rc = rc ? rc : lr_io_pread(fd, buf, n, 0);
        h = rc ? 0 : lr_hash64(lr_str(buf, n), size);
        rc = rc ? rc : lr_io_pread(fd, buf, n, size - n);
        h = rc ? 0 : lr_hash64(lr_str(buf, n), h);
        lr_io_close(fd);
    }
    lr_free(buf);
    if (rc)
        return lr_err_set(err, rc, "--model", "%s: %s", path, lr_strerror(rc));
    *out = h;
    return 0;
}

/* The same of bytes in memory. */
static uint64_t fingerprint_of(struct lr_str b)
{
    size_t n = b.n < SAMPLED ? b.n : SAMPLED;
    return lr_hash64(lr_str(b.p + b.n - n, n), lr_hash64(lr_str(b.p, n), b.n));
}

static int identity(const struct eval_run *r, struct lr_buf *out)
{
    const struct lr_eval_kv *o = r->opts;
    const char *slash = strrchr(o->model, '/');
    uint64_t file = 0;
    char hex[17];
    struct lr_jw w;
    if (o->bytes.n)
        file = fingerprint_of(o->bytes);
    else
        LR_TRY(fingerprint(o->model, &file, r->err));
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "larder");
    lr_jw_strz(&w, "eval kv");
    lr_jw_key(&w, "format");
    lr_jw_u64(&w, 1);
    lr_jw_key(&w, "model");
    lr_jw_strz(&w, slash ? slash + 1 : o->model);
    const struct {
        const char *key;
        uint64_t v;
    } all[] = {{"file", file},
               {"text", lr_hash64(lr_buf_str(&r->plan->text), 0)},
               {"own", lr_hash64(lr_buf_str(&r->plan->own), 0)}};
    for (size_t i = 0; i < LR_COUNT(all); i++) {
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)all[i].v);
        lr_jw_key(&w, all[i].key);
        lr_jw_strz(&w, hex);
    }
    lr_jw_key(&w, "hold");
    lr_jw_bool(&w, o->hold);
    lr_jw_end(&w);
    return out->rc ? lr_err_set(r->err, out->rc, "results", "out of memory") : 0;
}

/* ---- the loop ---- */

static int run_sample(struct eval_run *r, uint32_t job, enum lr_eval_mode mode, uint32_t sample)
{
    switch (r->plan->job[job].kind) {
    case EVAL_PERPLEXITY:
        return mode ? 0 : lr_eval_perplexity(r, job, sample);
    case EVAL_SYSTEM:
        return mode ? 0 : lr_eval_system(r, job, sample);
    default:
        return lr_eval_recall(r, job, mode, sample);
    }
}

/* Slots of a job and mode: all of them, and those that are filled. */
static void count(const struct eval_run *r, uint32_t job, enum lr_eval_mode mode, size_t *all,
                  size_t *have)
{
    *all = *have = 0;
    for (uint32_t c = 0; c < r->plan->n_cell; c++)
        for (uint32_t i = 0; i < r->plan->job[job].samples; i++)
            if (lr_eval_wanted(r->plan, job, mode, c, i)) {
                ++*all;
                *have += lr_eval_grid_at(&r->grid, job, mode, c, i)->have;
            }
}

static int run_job(struct eval_run *r, uint32_t job, enum lr_eval_mode mode)
{
    const struct eval_job *j = &r->plan->job[job];
    size_t all, have;
    char line[160];
    count(r, job, mode, &all, &have);
    if (have == all)
        return 0;
    uint64_t start = lr_clock_mono_ns();
    snprintf(line, sizeof line, "%s, %s: %zu of %zu results to come", j->name,
             lr_eval_mode_name(mode), all - have, all);
    tell(r, line);
    for (uint32_t i = 0; i < j->samples; i++)
        LR_TRY(run_sample(r, job, mode, i));
    snprintf(line, sizeof line, "%s, %s: done in %.1f s", j->name, lr_eval_mode_name(mode),
             (double)(lr_clock_mono_ns() - start) / 1e9);
    tell(r, line);
    return 0;
}

static int run_all(struct eval_run *r)
{
    for (uint32_t j = 0; j < r->plan->n_job; j++)
        for (int m = 0; m < LR_EVAL_MODES; m++)
            LR_TRY(run_job(r, j, (enum lr_eval_mode)m));
    return lr_nn_gguf_check(lr_engine_model_file(r->model), r->err);
}

/* ---- reports ---- */

static int write_report(const struct eval_run *r, const char *name, const struct lr_buf *b)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", r->opts->out, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return lr_err_set(r->err, LR_EINVAL, "--out", "the path is too long");
    int rc = b->rc ? b->rc : lr_io_write_file(path, lr_buf_str(b), 0644);
    return rc ? lr_err_set(r->err, rc, "--out", "%s: %s", path, lr_strerror(rc)) : 0;
}

static int report(const struct eval_run *r, struct lr_buf *text, unsigned *failed)
{
    struct eval_control control[LR_EVAL_CONTROLS];
    struct lr_buf table, page;
    lr_buf_init(&table, LR_MIB(16));
    lr_buf_init(&page, LR_MIB(64));
    int rc = lr_eval_controls(&r->grid, control);
    rc = rc ? rc : lr_eval_table(&r->grid, control, &table);
    rc = rc ? rc : lr_eval_page(&r->grid, control, &page);
    if (r->opts->out) {
        rc = rc ? rc : write_report(r, "report.txt", &table);
        rc = rc ? rc : write_report(r, "report.html", &page);
    }
    if (!rc && text)
        rc = lr_buf_adds(text, lr_buf_str(&table));
    if (rc)
        lr_err_set(r->err, rc, "report", "%s", lr_strerror(rc)); /* unless it says already */
    *failed = 0;
    for (size_t i = 0; !rc && i < LR_EVAL_CONTROLS; i++)
        *failed += control[i].verdict == EVAL_FAIL;
    lr_buf_free(&table);
    lr_buf_free(&page);
    return rc;
}

/* ---- opening and closing ---- */

/* Threads that meet at every layer do a small model no good. */
#define SMALL_MODEL LR_MIB(32)

static unsigned threads_for(const struct eval_run *r)
{
    struct lr_engine_plan plan;
    const struct lr_engine_opts one = {.threads = 1};
    if (r->opts->threads)
        return r->opts->threads;
    int rc = lr_engine_plan(r->model, &one, &plan, NULL);
    return rc || plan.bytes_weights < SMALL_MODEL ? 1 : 2;
}

static int open_model(struct eval_run *r)
{
    const struct lr_eval_kv *o = r->opts;
    LR_TRY(o->bytes.n ? lr_engine_model_open_mem(&r->model, o->bytes, r->err)
                      : lr_eval_open_model(&r->model, o->model, r->err));
    LR_TRY(lr_nn_tok_open(&r->tok, lr_engine_model_file(r->model), r->err));
    LR_TRY(lr_eval_coder_init(&r->coder, r->tok, r->err));
    r->vocab = lr_engine_model_shape(r->model)->n_vocab;
    if (lr_nn_tok_size(r->tok) > r->vocab)
        return lr_err_set(r->err, LR_EINVAL, "--model", "a vocabulary of %zu and logits for %u",
                          lr_nn_tok_size(r->tok), r->vocab);
    const struct lr_engine_opts e = {.threads = threads_for(r), .kv_max = LR_GIB(8)};
    return lr_engine_open(&r->engine, r->model, &e, r->err);
}

static int open_buffers(struct eval_run *r)
{
    size_t tile = (size_t)r->vocab * LR_EVAL_PPL_TILE;
    r->logits = lr_calloc(r->vocab, sizeof *r->logits);
    r->full_logits = lr_calloc(r->vocab, sizeof *r->full_logits);
    r->tile = lr_calloc(tile, sizeof *r->tile);
    r->full_tile = lr_calloc(tile, sizeof *r->full_tile);
    if (!r->logits || !r->full_logits || !r->tile || !r->full_tile)
        return lr_err_set(r->err, LR_ENOMEM, "eval", "out of memory");
    int rc = lr_eval_words_read(lr_eval_words_text, &r->words);
    return rc ? lr_err_set(r->err, rc, "words", "%s", lr_strerror(rc)) : 0;
}

/* Opens each pair of policy and budget once, so that what this model cannot do (a codec that needs
 * wider heads, a budget of less than a page) is told before any work. Of the usual list it is left
 * out. */
static int try_cells(struct eval_run *r)
{
    struct eval_plan *p = r->plan;
    uint32_t kept = 0;
    for (uint32_t c = 0; c < p->n_cell; c++) {
        const struct eval_cell cell = p->cell[c];
        const struct lr_engine_seq_opts o = {
            .policy = {.stack = &p->stack[cell.stack], .budget = cell.budget}};
        struct lr_engine_seq *s;
        struct lr_err own = {0};
        bool plain = cell.kind == EVAL_FULL || cell.kind == EVAL_EMPTY;
        int rc = plain ? 0 : lr_engine_seq_open(&s, r->engine, &o, &own);
        if (!plain && !rc)
            lr_engine_seq_close(s);
        if (rc && (r->opts->policies || rc == LR_ENOMEM))
            return lr_err_set(r->err, rc, cell.policy, "%s", own.msg);
        if (rc)
            tell(r, own.msg);
        else
            p->cell[kept++] = cell;
    }
    p->n_cell = kept;
    return 0;
}

static int run_opened(struct eval_run *r, struct lr_buf *text, unsigned *failed)
{
    struct lr_buf id;
    lr_buf_init(&id, LR_KIB(64));
    int rc = identity(r, &id);
    rc = rc ? rc : lr_eval_grid_open(&r->grid, r->plan, lr_buf_str(&id), r->err);
    lr_buf_free(&id);
    LR_TRY(rc);
    if (r->grid.found) {
        char line[80];
        snprintf(line, sizeof line, "%zu results were there already", r->grid.found);
        tell(r, line);
    }
    rc = run_all(r);
    rc = rc ? rc : report(r, text, failed);
    lr_eval_grid_close(&r->grid);
    return rc;
}

int lr_eval_kv(const struct lr_eval_kv *o, struct lr_buf *text, unsigned *failed,
               struct lr_err *err)
{
    struct lr_err own = {0};
    struct eval_run *r = lr_new(struct eval_run);
    struct eval_plan *plan = lr_new(struct eval_plan);
    int rc = r && plan ? 0 : lr_err_set(err, LR_ENOMEM, "eval", "out of memory");
    if (rc)
        goto undo_alloc;
    *r = (struct eval_run){.opts = o, .plan = plan, .err = err ? err : &own, .grid = {.fd = -1}};
    rc = open_model(r);
    if (!rc) {
        rc = lr_eval_plan_make(plan, o, lr_engine_model_shape(r->model)->n_ctx, r->err);
        rc = rc ? rc : open_buffers(r);
        rc = rc ? rc : try_cells(r);
        rc = rc ? rc : run_opened(r, text, failed);
        lr_eval_plan_free(plan);
    }
    lr_free(r->logits);
    lr_free(r->full_logits);
    lr_free(r->tile);
    lr_free(r->full_tile);
    lr_engine_close(r->engine);
    lr_nn_tok_close(r->tok);
    lr_engine_model_close(r->model);
undo_alloc:
    lr_free(plan);
    lr_free(r);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 * eval/grid.c - a slot for every (job, mode, cell, sample), and results.jsonl, which fills them
 * again when an evaluation is continued.
 *
 *   line 1   {"larder":"eval kv","format":1, ...}    what must agree for results to be comparable
 *   others   {"task":..,"tokens":..,"sample":..,"seed":..,"mode":..,"policy":..,"budget":.., ...}
 *
 * A line is one write: what a killed run leaves is whole lines and at most one torn one at the end,
 * which is cut off. Lines that the present plan does not ask for (another policy, another seed)
 * stay in the file and are not looked at: one directory can hold several evaluations of one model.
 */
#include "eval/eval_int.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define FILE_MAX  LR_GIB(1)
#define SLOTS_MAX ((size_t)1 << 22)

struct eval_value *lr_eval_grid_at(const struct eval_grid *g, uint32_t job, enum lr_eval_mode mode,
                                   uint32_t cell, uint32_t sample)
{
    const struct eval_plan *p = g->plan;
    return &g->v[g->base[job] + ((size_t)mode * p->n_cell + cell) * p->job[job].samples + sample];
}

/* ---- the values as JSON ---- */

static const struct {
    const char *name;
    size_t at;
} fields[] = {
    {"score", offsetof(struct eval_value, score)},
    {"alive", offsetof(struct eval_value, alive)},
    {"same", offsetof(struct eval_value, same)},
    {"nll", offsetof(struct eval_value, nll)},
    {"kl", offsetof(struct eval_value, kl)},
    {"kl_p99", offsetof(struct eval_value, kl99)},
    {"top1", offsetof(struct eval_value, top1)},
    {"rows", offsetof(struct eval_value, rows)},
    {"bytes", offsetof(struct eval_value, bytes)},
    {"ttft_ms", offsetof(struct eval_value, ttft_ms)},
    {"tap_ms", offsetof(struct eval_value, tap_ms)},
    {"policy_ms", offsetof(struct eval_value, policy_ms)},
    {"tap_bytes", offsetof(struct eval_value, tap_bytes)},
    {"peak_bytes", offsetof(struct eval_value, peak)},
    {"decode_tps", offsetof(struct eval_value, decode_tps)},
};

static double *field(struct eval_value *v, size_t i)
{
    return (double *)(void *)((char *)v + fields[i].at);
}

static void write_values(struct lr_jw *w, const struct eval_value *v)
{
    for (size_t i = 0; i < LR_COUNT(fields); i++) {
        double x = *(const double *)(const void *)((const char *)v + fields[i].at);
        if (!isfinite(x))
            continue;
        lr_jw_key(w, fields[i].name);
        lr_jw_real(w, x);
    }
    if (isnan(v->turn[0]))
        return;
    lr_jw_key(w, "turns");
    lr_jw_arr(w);
    for (size_t i = 0; i < LR_EVAL_TURNS_MAX && !isnan(v->turn[i]); i++)
        lr_jw_real(w, v->turn[i]);
    lr_jw_end(w);
}

static void read_values(const struct lr_json *o, struct eval_value *v)
{
    for (size_t i = 0; i < LR_COUNT(fields); i++) {
        *field(v, i) = NAN;
        (void)lr_json_real(lr_json_get(o, fields[i].name), field(v, i)); /* absent: not a number */
    }
    const struct lr_json *turns = lr_json_get(o, "turns"), *e = turns ? turns->child : NULL;
    for (size_t i = 0; i < LR_EVAL_TURNS_MAX; i++, e = e ? e->next : NULL) {
        v->turn[i] = NAN;
        (void)lr_json_real(e, &v->turn[i]);
    }
    v->have = true;
}

/* ---- the file ---- */

static bool text_is(const struct lr_json *o, const char *key, const char *want)
{
    struct lr_str t;
    return lr_json_text(lr_json_get(o, key), &t) && lr_str_is(t, want);
}

/* The slot a line is about, or NULL when the plan has none. */
static struct eval_value *slot_of(const struct eval_grid *g, const struct lr_json *o)
{
    const struct eval_plan *p = g->plan;
    uint64_t sample = 0, seed = 0, tokens = 0;
    if (!lr_json_u64(lr_json_get(o, "sample"), &sample) ||
        !lr_json_u64(lr_json_get(o, "seed"), &seed) ||
        !lr_json_u64(lr_json_get(o, "tokens"), &tokens) || seed != p->opts->seed)
        return NULL;
    for (uint32_t j = 0; j < p->n_job; j++) {
        if (!text_is(o, "task", p->job[j].name) || tokens != p->job[j].tokens ||
            sample >= p->job[j].samples)
            continue;
        for (uint32_t c = 0; c < p->n_cell; c++)
            for (int m = 0; m < LR_EVAL_MODES; m++)
                if (text_is(o, "policy", p->cell[c].policy) &&
                    text_is(o, "budget", p->cell[c].label) &&
                    text_is(o, "mode", lr_eval_mode_name((enum lr_eval_mode)m)) &&
                    lr_eval_wanted(p, j, (enum lr_eval_mode)m, c, (uint32_t)sample))
                    return lr_eval_grid_at(g, j, (enum lr_eval_mode)m, c, (uint32_t)sample);
    }
    return NULL;
}

static int read_line(struct eval_grid *g, struct lr_arena *a, struct lr_str line, size_t number,
                     struct lr_err *err)
{
    struct lr_json *o;
    lr_arena_reset(a);
    int rc = lr_json_parse(a, line, NULL, &o, NULL);
    if (rc || o->type != LR_JSON_OBJECT)
        return lr_err_set(err, rc == LR_ENOMEM ? rc : LR_ECORRUPT, "results.jsonl",
                          "line %zu is no result: remove it, or choose another --out", number);
    struct eval_value *v = slot_of(g, o);
    if (v) {
        g->found += !v->have;
        read_values(o, v);
    }
    return 0;
}

/* Reads what is there; *end: behind the last whole line. */
static int read_file(struct eval_grid *g, struct lr_str bytes, struct lr_str identity,
                     uint64_t *end, struct lr_err *err)
{
    struct lr_arena a;
    size_t number = 0;
    int rc = 0;
    lr_arena_init(&a, LR_MIB(1));
    for (size_t at = 0; !rc && at < bytes.n;) {
        const char *nl = memchr(bytes.p + at, '\n', bytes.n - at);
        if (!nl)
            break;
        struct lr_str line = lr_str(bytes.p + at, (size_t)(nl - bytes.p) - at);
        if (++number == 1 && !lr_str_eq(line, identity))
            rc = lr_err_set(err, LR_EEXIST, "--out",
                            "results.jsonl there is of another model, text or setting");
        else if (number > 1)
            rc = read_line(g, &a, line, number, err);
        at += line.n + 1;
        *end = at;
    }
    lr_arena_free(&a);
    return rc;
}

static int append_line(struct eval_grid *g, struct lr_str line, struct lr_err *err)
{
    int rc = lr_io_pwrite(g->fd, line.p, line.n, g->end);
    if (rc)
        return lr_err_set(err, rc, "results.jsonl", "cannot be written: %s", lr_strerror(rc));
    g->end += line.n;
    return 0;
}

static int begin_file(struct eval_grid *g, struct lr_str identity, struct lr_err *err)
{
    char path[4096];
    struct lr_buf b;
    int n = snprintf(path, sizeof path, "%s/results.jsonl", g->plan->opts->out);
    if (n < 0 || (size_t)n >= sizeof path)
        return lr_err_set(err, LR_EINVAL, "--out", "the path is too long");
    int rc = lr_io_open(path, O_RDWR | O_CREAT, 0644, &g->fd);
    if (rc == LR_ENOENT) {
        rc = lr_io_mkdir(g->plan->opts->out, 0755);
        rc = rc ? rc : lr_io_open(path, O_RDWR | O_CREAT, 0644, &g->fd);
    }
    if (rc)
        return lr_err_set(err, rc, "--out", "%s: %s", path, lr_strerror(rc));
    lr_buf_init(&b, FILE_MAX);
    rc = lr_io_read_file(path, &b);
    if (rc)
        lr_err_set(err, rc, "--out", "%s: %s", path, lr_strerror(rc));
    rc = rc ? rc : read_file(g, lr_buf_str(&b), identity, &g->end, err);
    if (!rc && g->end < b.len &&
        ftruncate(g->fd, (off_t)g->end)) /* the torn line of a killed run */
        rc = lr_err_set(err, LR_EIO, "--out", "%s cannot be cut", path);
    lr_buf_free(&b);
    if (!rc && g->end == 0) {
        rc = append_line(g, identity, err);
        rc = rc ? rc : append_line(g, LR_STR("\n"), err);
    }
    return rc;
}

int lr_eval_grid_open(struct eval_grid *g, const struct eval_plan *p, struct lr_str identity,
                      struct lr_err *err)
{
    size_t n = 0;
    *g = (struct eval_grid){.plan = p, .fd = -1};
    for (uint32_t j = 0; j < p->n_job; j++) {
        g->base[j] = n;
        n += (size_t)LR_EVAL_MODES * p->n_cell * p->job[j].samples;
    }
    if (n > SLOTS_MAX)
        return lr_err_set(err, LR_EOVER, "--samples", "%zu results are more than %zu", n,
                          SLOTS_MAX);
    g->v = lr_calloc(n, sizeof *g->v);
    if (!g->v)
        return lr_err_set(err, LR_ENOMEM, "--samples", "out of memory");
    int rc = p->opts->out ? begin_file(g, identity, err) : 0;
    if (rc)
        lr_eval_grid_close(g);
    return rc;
}

void lr_eval_grid_close(struct eval_grid *g)
{
    if (g->fd >= 0)
        lr_io_close(g->fd);
    g->fd = -1;
    lr_free(g->v);
    g->v = NULL;
}

int lr_eval_grid_put(struct eval_grid *g, uint32_t job, enum lr_eval_mode mode, uint32_t cell,
                     uint32_t sample, const struct eval_value *v, struct lr_err *err)
{
    const struct eval_plan *p = g->plan;
    struct lr_buf b;
    struct lr_jw w;
    struct eval_value *to = lr_eval_grid_at(g, job, mode, cell, sample);
    *to = *v;
    to->have = true;
    if (g->fd < 0)
        return 0;
    lr_buf_init(&b, LR_KIB(64));
    lr_jw_init(&w, &b);
    lr_jw_obj(&w);
    const struct {
        const char *key, *text;
        uint64_t number;
    } key[] = {
        {"task", p->job[job].name, 0},
        {"tokens", NULL, p->job[job].tokens},
        {"sample", NULL, sample},
        {"seed", NULL, p->opts->seed},
        {"mode", lr_eval_mode_name(mode), 0},
        {"policy", p->cell[cell].policy, 0},
        {"budget", p->cell[cell].label, 0},
    };
    for (size_t i = 0; i < LR_COUNT(key); i++) {
        lr_jw_key(&w, key[i].key);
        if (key[i].text)
            lr_jw_strz(&w, key[i].text);
        else
            lr_jw_u64(&w, key[i].number);
    }
    write_values(&w, to);
    lr_jw_end(&w);
    lr_buf_addc(&b, '\n');
    int rc = b.rc ? lr_err_set(err, b.rc, "results.jsonl", "out of memory")
                  : append_line(g, lr_buf_str(&b), err);
    lr_buf_free(&b);
    return rc;
}

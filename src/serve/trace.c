/* SPDX-License-Identifier: Apache-2.0
 * serve/trace.c - what became of the last requests: for explain, the dashboard, and trace files.
 *
 * A ring of fixed records under one lock (held for a copy), a day of minute totals, and, when asked,
 * one JSONL line a request appended to a file. No record holds text or a secret: members are keyed
 * digests, blocks are keyed chain digests, names are what the operator or the caller chose as names.
 */
#include "serve/serve_int.h"

#include <fcntl.h>

#define MINUTES 1440
#define EARLY 64 /* answers on disk before their slow reader's record came */
#define LINES_MAX LR_MIB(8)

struct lr_traces {
    pthread_mutex_t mu; /* guards all below; taken last, never held during I/O */
    struct lr_record *ring;
    size_t max;
    uint64_t added; /* ring[added % max] is the next to be overwritten */
    struct lr_minute minutes[MINUTES];
    char early[EARLY][LR_ID_LEN + 1];
    size_t n_early;
    int fd;             /* -1 = no file */
    struct lr_buf lines; /* for the file, until the next tick; beyond its maximum they are dropped */
};

int lr_traces_open(struct lr_traces **out, size_t max, const char *file, struct lr_err *err)
{
    struct lr_traces *t = lr_new(struct lr_traces);
    LR_FAIL_IF(!t, LR_ENOMEM);
    pthread_mutex_init(&t->mu, NULL);
    t->fd = -1;
    lr_buf_init(&t->lines, LINES_MAX);
    t->max = max ? max : 1;
    t->ring = lr_calloc(t->max, sizeof *t->ring);
    int rc = t->ring ? 0 : LR_ENOMEM;
    if (!rc && file && *file &&
        (rc = lr_io_open(file, O_WRONLY | O_CREAT | O_APPEND, 0600, &t->fd)))
        lr_err_set(err, rc, file, "the trace file cannot be opened: %s", lr_strerror(rc));
    if (rc) {
        lr_traces_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void lr_traces_close(struct lr_traces *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->ring && i < t->max; i++)
        lr_free(t->ring[i].members);
    lr_traces_tick(t);
    lr_io_close(t->fd);
    lr_free(t->ring);
    pthread_mutex_destroy(&t->mu);
    lr_free(t);
}

static void add_minute(struct lr_traces *t, const struct lr_record *r)
{
    uint64_t minute = r->wall_ms / 60000;
    struct lr_minute *m = &t->minutes[minute % MINUTES];
    if (m->minute != minute)
        *m = (struct lr_minute){.minute = minute};
    m->n[r->outcome]++;
    if (r->outcome == LR_OUT_HIT || r->outcome == LR_OUT_STALE) {
        m->tokens_saved += r->usage.input + r->usage.output;
        m->ms_saved += r->ms_saved;
        m->money_saved += r->money_saved;
        m->hit_ns += r->first_ns;
    } else if (r->outcome == LR_OUT_MISS) {
        m->miss_ns += r->first_ns;
        m->money_spent += r->money_spent;
    }
}

void lr_traces_tick(struct lr_traces *t)
{
    struct lr_buf lines;
    pthread_mutex_lock(&t->mu);
    lines = t->lines;
    lr_buf_init(&t->lines, LINES_MAX);
    pthread_mutex_unlock(&t->mu);
    if (lines.rc)
        LR_LOG_EVERY(60 * LR_SEC, LR_LOG_WARN, "trace", "event=trace_lines_dropped");
    if (lines.len && lr_io_write(t->fd, lines.p, lines.len))
        LR_LOG_EVERY(60 * LR_SEC, LR_LOG_WARN, "trace", "event=trace_file_failed");
    lr_buf_free(&lines);
}

void lr_traces_add(struct lr_traces *t, struct lr_record *r)
{
    pthread_mutex_lock(&t->mu);
    struct lr_record *slot = &t->ring[t->added++ % t->max];
    void *old = slot->members;
    *slot = *r;
    r->members = NULL;
    for (size_t i = 0; i < EARLY; i++)
        slot->stored |= memcmp(t->early[i], slot->id, sizeof slot->id) == 0;
    add_minute(t, slot);
    if (t->fd >= 0)
        (void)lr_trace_line(slot, &t->lines); /* full: the buffer remembers, tick says so */
    pthread_mutex_unlock(&t->mu);
    lr_free(old);
}

/* Newest first; NULL at the end. */
static struct lr_record *nth_locked(struct lr_traces *t, size_t i)
{
    if (i >= t->max || i >= t->added)
        return NULL;
    return &t->ring[(t->added - 1 - i) % t->max];
}

void lr_traces_stored(struct lr_traces *t, const char *id)
{
    pthread_mutex_lock(&t->mu);
    size_t i = 0;
    struct lr_record *r;
    while ((r = nth_locked(t, i)) && memcmp(r->id, id, sizeof r->id) != 0)
        i++;
    if (r)
        r->stored = true;
    else /* its reader is still at it */
        memcpy(t->early[t->n_early++ % EARLY], id, LR_ID_LEN + 1);
    pthread_mutex_unlock(&t->mu);
}

static int copy_out(const struct lr_record *r, struct lr_record *out)
{
    struct lr_key_member *members = NULL;
    if (r->n_members) {
        members = lr_calloc(r->n_members, sizeof *members);
        LR_FAIL_IF(!members, LR_ENOMEM);
        memcpy(members, r->members, r->n_members * sizeof *members);
    }
    *out = *r;
    out->members = members;
    return 0;
}

int lr_traces_find(struct lr_traces *t, const char *id, struct lr_record *out)
{
    int rc = LR_ENOENT;
    pthread_mutex_lock(&t->mu);
    struct lr_record *r;
    for (size_t i = 0; (r = nth_locked(t, i)); i++)
        if (strcmp(r->id, id) == 0) {
            rc = copy_out(r, out);
            break;
        }
    pthread_mutex_unlock(&t->mu);
    return rc;
}

int lr_traces_by_key(struct lr_traces *t, const struct lr_digest *key, struct lr_record *out)
{
    int rc = LR_ENOENT;
    pthread_mutex_lock(&t->mu);
    struct lr_record *r;
    for (size_t i = 0; (r = nth_locked(t, i)); i++)
        if (r->n_members && lr_digest_eq(&r->key, key)) {
            rc = copy_out(r, out);
            break;
        }
    pthread_mutex_unlock(&t->mu);
    return rc;
}

size_t lr_traces_recent(struct lr_traces *t, struct lr_record *out, size_t n)
{
    size_t i = 0;
    pthread_mutex_lock(&t->mu);
    for (struct lr_record *r; i < n && (r = nth_locked(t, i)); i++) {
        out[i] = *r;
        out[i].members = NULL;
        out[i].n_members = 0;
    }
    pthread_mutex_unlock(&t->mu);
    return i;
}

size_t lr_traces_minutes(struct lr_traces *t, struct lr_minute *out, size_t n)
{
    size_t k = 0;
    uint64_t now = lr_clock_wall_ms() / 60000;
    pthread_mutex_lock(&t->mu);
    for (uint64_t m = now + 1 - (n < MINUTES ? n : MINUTES); m <= now; m++) {
        struct lr_minute *slot = &t->minutes[m % MINUTES];
        out[k] = slot->minute == m ? *slot : (struct lr_minute){.minute = m};
        k++;
    }
    pthread_mutex_unlock(&t->mu);
    return k;
}

/* ---- the trace format ---- */

static void hint(struct lr_jw *w, const char *name, const char *value)
{
    if (!*value)
        return;
    lr_jw_key(w, name);
    lr_jw_strz(w, value);
}

int lr_trace_line(const struct lr_record *r, struct lr_buf *out)
{
    struct lr_jw w;
    char hex[17];
    lr_jw_init(&w, out);
    lr_jw_obj(&w);
    lr_jw_key(&w, "timestamp");
    lr_jw_u64(&w, r->wall_ms);
    lr_jw_key(&w, "input_length");
    lr_jw_u64(&w, r->usage.input);
    lr_jw_key(&w, "output_length");
    lr_jw_u64(&w, r->usage.output);
    lr_jw_key(&w, "text_bytes");
    lr_jw_u64(&w, r->text_bytes);
    lr_jw_key(&w, "ms");
    lr_jw_u64(&w, r->total_ns / LR_MS);
    hint(&w, "model", r->model);
    lr_jw_key(&w, "cache");
    lr_jw_strz(&w, lr_outcome_name((enum lr_outcome)r->outcome));
    lr_jw_key(&w, "tenant");
    lr_hex(&r->tenant, 8, hex);
    lr_jw_strz(&w, hex);
    lr_jw_key(&w, "blocks");
    lr_jw_arr(&w);
    for (size_t i = 0; i < r->n_blocks; i++) {
        lr_hex(&r->blocks[i], 8, hex);
        lr_jw_strz(&w, hex);
    }
    lr_jw_end(&w);
    hint(&w, "program", r->hints.program);
    hint(&w, "parent", r->hints.parent);
    hint(&w, "tool", r->hints.tool);
    if (r->hints.last) {
        lr_jw_key(&w, "last");
        lr_jw_bool(&w, true);
    }
    lr_jw_end(&w);
    lr_buf_addc(out, '\n');
    return out->rc;
}

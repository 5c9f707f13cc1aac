/* SPDX-License-Identifier: Apache-2.0
 * serve/keep.c - what becomes of a finished answer: facts, compact form, the shelf.
 *
 * Done at once for answers of usual size: some microseconds of the net thread, and the answer is on the
 * shelf before its reader knows that it is complete. Larger ones are a job of the pool, and a request
 * that follows within milliseconds may miss. A full pool drops the answer: a cache step that cannot be
 * had is a miss later on.
 */
#include "serve/serve_int.h"

#define AT_ONCE LR_KIB(64) /* bytes of log */

struct keep_job {
    struct lr_job job;
    struct lr_serve *serve;
    struct lr_keep_note note;
    struct lr_buf log;
};

/* `stored`, from the keeper's thread. */
struct stored_note {
    struct lr_serve *serve;
    char id[LR_ID_LEN + 1];
};

static void on_stored(void *arg, int rc)
{
    struct stored_note *n = arg;
    if (rc == 0)
        lr_traces_stored(n->serve->traces, n->id);
    lr_free(n);
}

static void put(struct keep_job *k, struct lr_str compact, const struct lr_answer_facts *facts)
{
    struct lr_doc_meta *m = &k->note.meta;
    m->tokens_in = facts->usage.input;
    m->tokens_out = facts->usage.output;
    m->choices = facts->choices;
    m->cut = facts->cut;
    m->dialect = facts->lossy ? (uint8_t)facts->dialect : LR_DIALECT_NONE;
    struct stored_note *n = lr_new(struct stored_note);
    if (n) {
        n->serve = k->serve;
        memcpy(n->id, k->note.id, sizeof n->id);
    }
    int rc = lr_answer_put(k->serve->answer, m, compact, k->note.bytes_tenant_max, n ? on_stored : NULL, n);
    if (rc) {
        lr_free(n);
        LR_LOG_EVERY(10 * LR_SEC, LR_LOG_WARN, "keep", "event=not_stored error=%s bytes=%zu",
                     lr_errname(rc), compact.n);
    }
}

static void keep(struct keep_job *k)
{
    struct lr_answer_facts facts;
    struct lr_buf compact;
    lr_buf_init(&compact, k->note.entry_max);
    if (lr_answer_facts(lr_buf_str(&k->log), &facts) == 0 && facts.storable &&
        lr_answer_compact(lr_buf_str(&k->log), &compact) == 0)
        put(k, lr_buf_str(&compact), &facts);
    lr_buf_free(&compact);
    lr_buf_free(&k->log);
    lr_free(k);
}

static void run(struct lr_job *j)
{
    keep(LR_CONTAINER(j, struct keep_job, job));
}

void lr_keep_store(struct lr_serve *s, const struct lr_keep_note *note, struct lr_buf *log)
{
    struct keep_job *k = lr_new(struct keep_job);
    if (!k)
        return;
    k->serve = s;
    k->note = *note;
    k->log = *log;
    lr_buf_init(log, log->max);
    k->job.run = run;
    if (k->log.len <= AT_ONCE)
        keep(k);
    else if (lr_pool_submit(s->pool, &k->job)) {
        lr_metric_add(LR_M_STORE_SHED, 1);
        lr_buf_free(&k->log);
        lr_free(k);
    }
}

/* SPDX-License-Identifier: Apache-2.0
 * serve/local.c - models of this machine: loaded at start, named after their files, closed at the end.
 *
 *   --model F.gguf   stem of F = the name clients use
 *                    model > tokeniser > template > plan > engine (threads, scratch, rows) > scheduler
 *
 * Memory is decided before anything big is touched: the plan of each model (weights, scratch, rows) is
 * held against what engine.memory leaves after those before it, and one that does not fit is refused
 * with the numbers. Without a limit it is what the machine, or the control group we run in, has. The rows
 * are a maximum: memory is taken as conversations grow. Where the options leave their size to us, it is
 * what `parallel` replies and as many conversations kept could fill, 1 GiB at most.
 *
 * engine.kv-budget caps a conversation. Under `full` every row stays, so the cap is one on tokens, and a
 * longer prompt is refused before any work. Under a policy that evicts it is the policy's budget, and
 * holds inside prompts too where the policy can do without the whole prompt.
 *
 * Keys of answers made here hold a print of the file and of the policy: another file under the old name
 * is another model, and must not be answered for by what the first has said. The print is of the
 * metadata's and tensors' outlines and of samples of each tensor, not of every byte: gigabytes would
 * have to be read. Of plug-ins, which are small, it is of every byte: one built anew decides anew.
 */
#include "serve/serve_int.h"

#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define BUILTIN_NAME "larder-mini"
#define SAMPLE       256u /* bytes hashed of each end of a tensor */
#define PLUGIN_MAX   LR_MIB(256) /* bytes of a plug-in's file */
#define CGROUP_FILE  "/sys/fs/cgroup/memory.max"

/* ---- names ---- */

static bool name_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
}

/* "dir/some-model.gguf" -> "some-model". */
static int take_name(struct lr_local *l, struct lr_err *err)
{
    const char *base = strrchr(l->path, '/');
    struct lr_str s = lr_strz(base ? base + 1 : l->path);
    if (s.n > 5 && strncasecmp(s.p + s.n - 5, ".gguf", 5) == 0)
        s.n -= 5;
    bool fits = s.n > 0 && s.n < sizeof l->name;
    for (size_t i = 0; i < s.n; i++)
        fits &= name_char(s.p[i]);
    if (!fits)
        return lr_err_set(err, LR_EINVAL, l->path,
                          "the file's name without .gguf is the model's name: 1 to %zu of A-Z a-z 0-9 "
                          ". _ -",
                          sizeof l->name - 1);
    memcpy(l->name, s.p, s.n);
    l->name[s.n] = 0;
    return 0;
}

struct lr_local *lr_locals_find(const struct lr_locals *all, struct lr_str name)
{
    for (size_t i = 0; i < all->n; i++)
        if (lr_str_is(name, all->v[i].name))
            return &all->v[i];
    return NULL;
}

struct lr_local *lr_locals_serving(const struct lr_locals *all, const struct lr_conf *conf,
                                   struct lr_str model, bool *alone)
{
    const struct lr_opt_alias *a = all->n ? lr_conf_alias(conf, model) : NULL;
    struct lr_local *l = lr_locals_find(all, a && *a->model ? lr_strz(a->model) : model);
    bool here = !a || !a->upstreams.n;
    for (size_t i = 0; !here && i < a->upstreams.n; i++)
        here = strcmp(a->upstreams.v[i], "local") == 0;
    *alone = !a || a->upstreams.n < 2;
    return here ? l : NULL;
}

/* ---- memory ---- */

/* Bytes that this process may use; 0: not known. */
uint64_t lr_serve_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t all = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0, group;
    struct lr_buf b;
    lr_buf_init(&b, 64);
    if (lr_io_read_file(CGROUP_FILE, &b) == 0 &&
        lr_parse_u64(lr_str_trim(lr_buf_str(&b)), &group) == 0 && (!all || group < all))
        all = group;
    lr_buf_free(&b);
    return all;
}

static unsigned cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 1;
    int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > (int)LR_ENGINE_THREADS_MAX ? LR_ENGINE_THREADS_MAX : (unsigned)n;
}

/* What the scheduler keeps beside the engine: logits, and each reply's sampler. */
static uint64_t sched_bytes(const struct lr_engine_shape *h, const struct lr_config *c)
{
    return c->engine_parallel * h->n_vocab * (sizeof(float) * 3 + sizeof(double));
}

/* Tokens of a conversation, before the memory for rows is known. */
static uint32_t wanted_context(const struct lr_local *l, const struct lr_config *c)
{
    const struct lr_engine_shape *h = lr_engine_model_shape(l->model);
    return c->engine_context ? (uint32_t)c->engine_context : h->n_ctx;
}

/* left: bytes that may still be taken; UINT64_MAX: nobody knows. */
static int plan(struct lr_local *l, const struct lr_config *c, uint64_t left,
                struct lr_engine_opts *o, struct lr_err *err)
{
    const struct lr_engine_shape *h = lr_engine_model_shape(l->model);
    uint64_t beside = sched_bytes(h, c);
    struct lr_err why = {0};
    *o = (struct lr_engine_opts){.threads = c->engine_threads ? (unsigned)c->engine_threads : cores(),
                                 .kv_max = c->engine_kv_memory,
                                 .codec = l->codec.name
                                              ? &l->codec
                                              : lr_engine_codec_find(lr_strz(c->engine_kv_codec))};
    if (left != UINT64_MAX)
        o->bytes_max = left > beside ? left - beside : 1;
    int rc = lr_engine_plan(l->model, o, &l->plan, &why);
    uint64_t use = (uint64_t)wanted_context(l, c) * (2 * c->engine_parallel) * l->plan.bytes_kv_token;
    if (!rc && !o->kv_max && use < l->plan.bytes_kv) {
        o->kv_max = use;
        rc = lr_engine_plan(l->model, o, &l->plan, &why);
    }
    l->plan.bytes_scratch += beside;
    l->plan.bytes_total += beside;
    return rc ? lr_err_set(err, rc, l->name, "%s", why.msg) : 0;
}

/* ---- policy ---- */

/* The stack's codec becomes the engine's, for plans as for rows. */
static int take_codec(struct lr_local *l, struct lr_err *err)
{
    const struct lr_policy_codec *c = l->stack.codec;
    uint32_t d = lr_engine_model_shape(l->model)->d_head;
    if (!c)
        return 0;
    l->stack.codec = NULL;
    l->codec = (struct lr_engine_codec){.name = c->name,
                                        .k = (enum lr_kern_type)lr_kern_type_find(lr_strz(c->k)),
                                        .v = (enum lr_kern_type)lr_kern_type_find(lr_strz(c->v)),
                                        .enc_k = c->enc_k,
                                        .enc_v = c->enc_v,
                                        .qx = c->qx,
                                        .ox = c->ox,
                                        .dec_k = c->dec_k,
                                        .dec_v = c->dec_v};
    if (!lr_kern_row_bytes(l->codec.k, d) || !lr_kern_row_bytes(l->codec.v, d))
        return lr_err_set(err, LR_EUNSUPPORTED, "engine.kv-codec",
                          "the codec %s cannot hold rows of %u elements, as '%s' has them", c->name, d,
                          l->name);
    return 0;
}

/* The stack, with engine.kv-codec in it where that is one of policy/'s. */
static int read_policy(struct lr_local *l, const struct lr_config *c, struct lr_err *err)
{
    char text[LR_POLICY_TEXT];
    struct lr_err why = {0};
    bool plain = lr_engine_codec_find(lr_strz(c->engine_kv_codec)) != NULL; /* in the engine's own list */
    int n = snprintf(text, sizeof text, "%s%s%s", c->engine_kv_policy, plain ? "" : "+",
                     plain ? "" : c->engine_kv_codec);
    if (n < 0 || (size_t)n >= sizeof text)
        return lr_err_set(err, LR_EOVER, "engine.kv-policy", "longer than %u bytes", LR_POLICY_TEXT);
    int rc = lr_policy_stack_parse(lr_strz(text), &l->stack, &why);
    if (rc)
        return lr_err_set(err, rc, "engine.kv-policy", "%s", why.msg);
    rc = lr_policy_budget_parse(lr_strz(c->engine_kv_budget), &l->budget, &why);
    if (rc)
        return lr_err_set(err, rc, "engine.kv-budget", "%s", why.msg);
    LR_TRY(take_codec(l, err));
    bool evicts = lr_policy_stack_evicts(&l->stack), any = l->budget.kind != LR_POLICY_BUDGET_NONE;
    if (evicts && !any)
        return lr_err_set(err, LR_EINVAL, "engine.kv-budget", "the policy '%s' needs a budget",
                          l->stack.text);
    l->capped = evicts;
    for (uint32_t i = 0; i < l->stack.n_part; i++)
        l->capped &= (l->stack.part[i].policy->flags & LR_POLICY_CAPPED) != 0;
    if (!evicts && any && l->budget.kind != LR_POLICY_BUDGET_BYTES)
        return lr_err_set(err, LR_EINVAL, "engine.kv-budget",
                          "under '%s', which keeps every row, the budget is bytes, as 8M",
                          l->stack.text);
    return 0;
}

/* Of the scheduler's sequences: none where every row is kept and read. */
static struct lr_engine_policy policy_of(const struct lr_local *l)
{
    if (!lr_policy_stack_evicts(&l->stack) && l->stack.select < 0 && l->stack.budget < 0)
        return (struct lr_engine_policy){0};
    return (struct lr_engine_policy){.stack = &l->stack, .budget = l->budget, .capped = l->capped};
}

/* Tokens of a conversation: what was asked for, or what fits. */
static int choose_context(struct lr_local *l, const struct lr_config *c, uint32_t *out,
                          struct lr_err *err)
{
    uint64_t n = wanted_context(l, c);
    if (!c->engine_context && n > l->plan.tokens)
        n = l->plan.tokens;
    if (!lr_policy_stack_evicts(&l->stack) && l->budget.kind == LR_POLICY_BUDGET_BYTES &&
        l->budget.bytes / l->plan.bytes_kv_token < n)
        n = l->budget.bytes / l->plan.bytes_kv_token;
    if (n < 2)
        return lr_err_set(err, LR_EOVER, "engine.kv-budget",
                          "%llu bytes hold no conversation: a token takes %llu",
                          (unsigned long long)l->budget.bytes,
                          (unsigned long long)l->plan.bytes_kv_token);
    *out = (uint32_t)n;
    return 0;
}

/* ---- what is in the file ---- */

static int read_pooling(struct lr_local *l, struct lr_err *err)
{
    enum { NONE, MEAN, CLS, LAST };
    char key[64];
    uint64_t type = MEAN;
    const struct lr_nn_gguf *g = lr_engine_model_file(l->model);
    (void)snprintf(key, sizeof key, "%s.pooling_type", lr_engine_model_shape(l->model)->arch); /* fits */
    int rc = lr_nn_gguf_u64(g, key, &type, err);
    l->embeds = type == MEAN || type == LAST;
    l->pool = type == LAST ? LR_ENGINE_POOL_LAST : LR_ENGINE_POOL_MEAN;
    return rc == LR_ENOENT ? 0 : rc;
}

static void add_sample(struct lr_blake3 *h, const struct lr_nn_tensor *t)
{
    const char *p = t->data;
    size_t n = t->bytes < SAMPLE ? t->bytes : SAMPLE;
    lr_blake3_add_str(h, t->name);
    lr_blake3_add_u64(h, t->bytes);
    lr_blake3_add_u64(h, t->type);
    lr_blake3_add_str(h, lr_str(p, n));
    lr_blake3_add_str(h, lr_str(p + t->bytes - n, n));
}

/* What the names in the stack stand for. */
static int add_plugins(struct lr_blake3 *h, const struct lr_config *c, struct lr_err *err)
{
    for (size_t i = 0; i < c->plugin.n; i++) {
        struct lr_buf b;
        lr_buf_init(&b, PLUGIN_MAX);
        int rc = lr_io_read_file(c->plugin.v[i], &b);
        lr_blake3_add_str(h, lr_buf_str(&b));
        lr_buf_free(&b);
        LR_FAIL_IF(rc, lr_err_set(err, rc, c->plugin.v[i], "the plug-in cannot be read: %s",
                                  lr_strerror(rc)));
    }
    return 0;
}

static int take_print(struct lr_local *l, const struct lr_config *c, uint32_t context,
                      struct lr_err *err)
{
    const struct lr_nn_gguf *g = lr_engine_model_file(l->model);
    struct lr_blake3 h;
    uint8_t d[16];
    lr_blake3_init(&h);
    for (size_t i = 0; i < lr_nn_gguf_tensors(g); i++)
        add_sample(&h, lr_nn_gguf_at(g, i));
    struct lr_str tmpl = {NULL, 0};
    (void)lr_nn_gguf_text(g, "tokenizer.chat_template", &tmpl, NULL); /* absent: none */
    lr_blake3_add_str(&h, tmpl);
    lr_blake3_add_str(&h, lr_strz(l->stack.text));
    lr_blake3_add_str(&h, lr_strz(c->engine_kv_budget));
    lr_blake3_add_str(&h, lr_strz(c->engine_kv_codec));
    lr_blake3_add_u64(&h, context);
    LR_TRY(add_plugins(&h, c, err));
    lr_blake3_out(&h, d, sizeof d);
    lr_hex(d, sizeof d, l->print);
    return 0;
}

static int read_file(struct lr_local *l, struct lr_err *err)
{
    struct lr_str tmpl = {NULL, 0};
    const struct lr_nn_gguf *g = lr_engine_model_file(l->model);
    LR_TRY(lr_nn_tok_open(&l->tok, g, err));
    if (lr_nn_tok_guessed(l->tok))
        lr_log(LR_LOG_WARN, "local", "event=pre_tokeniser_guessed model=%s", l->name);
    int rc = lr_nn_gguf_text(g, "tokenizer.chat_template", &tmpl, err);
    LR_FAIL_IF(rc && rc != LR_ENOENT, rc);
    LR_TRY(lr_engine_template_match(tmpl, &l->tmpl, err));
    rc = lr_engine_lexicon_open(&l->lexicon, l->tok);
    rc = rc ? rc : lr_engine_grammar_object(&l->object);
    LR_FAIL_IF(rc, lr_err_set(err, rc, "vocabulary", "%s", lr_strerror(rc)));
    if (lr_engine_lexicon_check(l->lexicon, l->object, NULL)) {
        lr_engine_grammar_close(l->object);
        l->object = NULL;
    }
    return read_pooling(l, err);
}

/* ---- life ---- */

int lr_serve_plugins(const struct lr_config *c, struct lr_err *err)
{
    for (size_t i = 0; i < c->plugin.n; i++) {
        struct lr_err why = {0};
        const char *path = c->plugin.v[i];
        int rc = lr_engine_plugin_load(path, &why);
        bool told = strncmp(why.where, path, strlen(why.where)) == 0; /* else: a part of it */
        LR_FAIL_IF(rc, lr_err_set(err, rc, path, "plug-in: %s%s%s", told ? "" : why.where,
                                  told ? "" : ": ", why.msg));
    }
    return 0;
}

static int load(struct lr_local *l, const struct lr_config *c, struct lr_reuse *reuse, uint64_t *left,
                struct lr_err *err)
{
    struct lr_engine_opts o;
    struct lr_err why = {0};
    uint32_t context = 0;
    int rc = *l->path ? lr_engine_model_open(&l->model, l->path, &why)
                      : lr_engine_model_open_mem(&l->model, lr_builtin_model(), &why);
    rc = rc ? rc : read_file(l, &why);
    if (rc)
        return lr_err_set(err, rc, *l->path ? l->path : l->name, "%s%s%s", why.where,
                          why.where[0] ? ": " : "", why.msg);
    LR_TRY(read_policy(l, c, err));
    LR_TRY(plan(l, c, *left, &o, err));
    LR_TRY(choose_context(l, c, &context, err));
    LR_TRY(lr_engine_open(&l->engine, l->model, &o, err));
    LR_TRY(take_print(l, c, context, err));
    if (*left != UINT64_MAX)
        *left -= l->plan.bytes_total < *left ? l->plan.bytes_total : *left;
    const struct lr_engine_sched_opts so = {.tok = l->tok,
                                            .tmpl = &l->tmpl,
                                            .lexicon = l->lexicon,
                                            .context = context,
                                            .parallel = (uint32_t)c->engine_parallel,
                                            .queue = (uint32_t)c->engine_queue,
                                            .forget = !c->engine_reuse,
                                            .reuse = reuse,
                                            .idle_ns = c->engine_idle * LR_MS,
                                            .policy = policy_of(l)};
    return lr_engine_sched_open(&l->sched, l->engine, &so, err);
}

static bool takes_builtin(const struct lr_config *c)
{
    return !c->model.n && !c->upstreams.n && lr_builtin_model().n;
}

static size_t count_models(const struct lr_config *c)
{
    bool none = c->model.n == 1 && strcmp(c->model.v[0], "none") == 0;
    return none ? 0 : takes_builtin(c) ? 1 : c->model.n;
}

bool lr_locals_any(const struct lr_config *c)
{
    return count_models(c) > 0;
}

/* Paths into v: the configuration's, or "" for the built-in one. */
static int list_models(const struct lr_config *c, struct lr_local **v, size_t *n, struct lr_err *err)
{
    bool builtin = takes_builtin(c);
    size_t all = count_models(c);
    *v = lr_calloc(all, sizeof **v);
    LR_FAIL_IF(!*v, lr_err_set(err, LR_ENOMEM, "models", "out of memory"));
    *n = all; /* closing finds what is there, and NULL elsewhere */
    for (size_t i = 0; i < all; i++) {
        struct lr_locals before = {.v = *v, .n = i};
        struct lr_local *l = &(*v)[i];
        l->path = builtin ? "" : c->model.v[i];
        if (builtin)
            memcpy(l->name, BUILTIN_NAME, sizeof BUILTIN_NAME);
        else
            LR_TRY(take_name(l, err));
        if (lr_locals_find(&before, lr_strz(l->name)))
            return lr_err_set(err, LR_EEXIST, l->path, "two models are named '%s'", l->name);
    }
    return 0;
}

int lr_locals_open(struct lr_locals *out, const struct lr_config *c, struct lr_err *err)
{
    uint64_t left = c->engine_memory ? c->engine_memory : lr_serve_memory();
    left = left ? left : UINT64_MAX;
    LR_TRY(list_models(c, &out->v, &out->n, err));
    for (size_t i = 0; i < out->n; i++)
        LR_TRY(load(&out->v[i], c, out->reuse, &left, err));
    return 0;
}

void lr_locals_stop(struct lr_locals *all, uint64_t drain_ns)
{
    uint64_t until = lr_clock_mono_ns() + drain_ns;
    for (size_t i = 0; i < all->n; i++) {
        uint64_t now = lr_clock_mono_ns();
        lr_engine_sched_close(all->v[i].sched, now < until ? until - now : 0);
        all->v[i].sched = NULL;
    }
}

void lr_locals_close(struct lr_locals *all)
{
    lr_locals_stop(all, 0);
    for (size_t i = 0; i < all->n; i++) {
        struct lr_local *l = &all->v[i];
        lr_engine_close(l->engine);
        lr_engine_grammar_close(l->object);
        lr_engine_lexicon_close(l->lexicon);
        lr_nn_tok_close(l->tok);
        lr_engine_model_close(l->model);
    }
    lr_free(all->v);
    *all = (struct lr_locals){.reuse = all->reuse};
}

/* ---- for the command line ---- */

static void describe(const struct lr_local *l, uint32_t context, struct lr_serve_model *out)
{
    *out = (struct lr_serve_model){.builtin = !*l->path,
                                   .bytes_weights = l->plan.bytes_weights,
                                   .bytes_scratch = l->plan.bytes_scratch,
                                   .bytes_kv = l->plan.bytes_kv,
                                   .bytes_total = l->plan.bytes_total,
                                   .context = context};
    memcpy(out->name, l->name, sizeof out->name);
}

bool lr_serve_model(const struct lr_serve *s, size_t i, struct lr_serve_model *out)
{
    if (i >= s->locals.n)
        return false;
    const struct lr_local *l = &s->locals.v[i];
    describe(l, lr_engine_sched_context(l->sched), out);
    return true;
}

int lr_serve_try_model(const struct lr_config *c, size_t i, struct lr_serve_model *out,
                       struct lr_err *err)
{
    struct lr_locals all = {.v = NULL};
    uint64_t left = c->engine_memory ? c->engine_memory : lr_serve_memory();
    left = left ? left : UINT64_MAX;
    int rc = list_models(c, &all.v, &all.n, err);
    if (!rc && i >= all.n)
        rc = LR_ENOENT;
    for (size_t k = 0; !rc && k <= i; k++) {
        rc = load(&all.v[k], c, NULL, &left, err);
        if (!rc && k == i)
            describe(&all.v[k], lr_engine_sched_context(all.v[k].sched), out);
    }
    lr_locals_close(&all);
    return rc;
}

/* SPDX-License-Identifier: Apache-2.0
 * tests/unit/dialect/translate_kit.h - what the tests of Messages, Responses and translation share:
 * golden files, event logs as text, canonical requests as text.
 *
 * Golden files lie in tests/golden/dialect/. LR_GOLDEN_WRITE=1 in the environment writes the
 * expected side anew; what changed is then to be read before it is committed.
 */
#ifndef LR_TESTS_TRANSLATE_KIT_H
#define LR_TESTS_TRANSLATE_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec.h"

#define GOLDEN LR_SOURCE_DIR "/tests/golden/dialect/"
#define MAX    CODEC_MAX

static inline void load(const char *name, struct lr_buf *out)
{
    if (codec_read(name, out))
        fail_msg("cannot read %s", name);
}

/* got is what the golden file says. */
static inline void same_as_golden(const char *name, struct lr_str got)
{
    char path[512];
    (void)snprintf(path, sizeof path, GOLDEN "%s", name);
    if (getenv("LR_GOLDEN_WRITE")) {
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(got.p, 1, got.n, f), got.n);
        fclose(f);
        return;
    }
    struct lr_buf want;
    lr_buf_init(&want, MAX);
    load(name, &want);
    if (!lr_str_eq(lr_buf_str(&want), got))
        fail_msg("%s differs; got:\n%.*s", name, (int)got.n, got.p);
    lr_buf_free(&want);
}

/* ---- event logs -------------------------------------------------------------------------------
 */

static inline int encode(enum lr_dialect_id d, bool stream, bool fresh, struct lr_str log,
                         struct lr_buf *out)
{
    struct lr_encoder_opts o = {.dialect = d,
                                .stream = stream,
                                .include_usage = true,
                                .fresh_ids = fresh,
                                .id = "abcdefghijklmnopqrstuvwx",
                                .created_s = 1750000000,
                                .whole_max = MAX};
    return codec_encode(&o, log, out);
}

/* One line an event. */
static inline void print_log(struct lr_str log, struct lr_buf *out)
{
    static const char *const types[] = {"",         "START",    "PART",   "DELTA", "SIGN",
                                        "PART_END", "LOGPROBS", "FINISH", "USAGE", "VECTOR",
                                        "EXTRA",    "ERROR",    "END",    "BYTES"};
    struct lr_event ev;
    int rc;
    while ((rc = lr_event_next(&log, &ev)) == 1) {
        lr_buf_addf(out, "%s sub=%u %u.%u", types[ev.type], ev.sub, ev.choice, ev.part);
        if (ev.dialect)
            lr_buf_addf(out, " of=%s", lr_dialect_name(ev.dialect));
        if (ev.type == LR_EV_ERROR)
            lr_buf_addf(out, " status=%u", ev.status);
        if (ev.type == LR_EV_USAGE)
            lr_buf_addf(out, " in=%llu out=%llu cached=%llu written=%llu reasoning=%llu known=%d",
                        (unsigned long long)ev.usage.input, (unsigned long long)ev.usage.output,
                        (unsigned long long)ev.usage.cached_input,
                        (unsigned long long)ev.usage.written_input,
                        (unsigned long long)ev.usage.reasoning, ev.usage.known);
        if (ev.a.n || ev.b.n) {
            lr_buf_addc(out, ' ');
            lr_json_quote(out, ev.a);
        }
        if (ev.b.n) {
            lr_buf_addc(out, ' ');
            lr_json_quote(out, ev.b);
        }
        lr_buf_addc(out, '\n');
    }
    assert_int_equal(rc, 0);
    assert_int_equal(out->rc, 0);
}

static inline void compact(struct lr_str log, struct lr_buf *out)
{
    struct lr_answer_facts f;
    assert_int_equal(lr_answer_facts(log, &f), 0);
    assert_int_equal(lr_answer_compact(log, out), 0);
}

static inline void same_logs(const char *what, struct lr_str a, struct lr_str b)
{
    struct lr_buf ta, tb;
    lr_buf_init(&ta, MAX);
    lr_buf_init(&tb, MAX);
    print_log(a, &ta);
    print_log(b, &tb);
    if (!lr_str_eq(lr_buf_str(&ta), lr_buf_str(&tb)))
        fail_msg("%s:\n%.*s--- against\n%.*s", what, LR_FMT(lr_buf_str(&ta)),
                 LR_FMT(lr_buf_str(&tb)));
    lr_buf_free(&ta);
    lr_buf_free(&tb);
}

/* ---- requests ---------------------------------------------------------------------------------
 */

static inline void print_str(struct lr_buf *out, const char *name, struct lr_str s)
{
    if (!s.n)
        return;
    lr_buf_addf(out, " %s=", name);
    lr_json_quote(out, s);
}

static inline void print_json(struct lr_buf *out, const char *name, const struct lr_json *v)
{
    if (!v)
        return;
    lr_buf_addf(out, " %s=", name);
    lr_buf_adds(out, v->raw);
}

static inline void print_extras(struct lr_buf *out, const char *name, const struct lr_extra *x)
{
    for (; x; x = x->next) {
        lr_buf_addf(out, " %s.", name);
        lr_buf_adds(out, x->v->key);
        lr_buf_addc(out, '=');
        lr_buf_adds(out, x->v->raw);
    }
}

static inline void print_parts(struct lr_buf *out, const struct lr_part *p, int depth)
{
    static const char *const types[] = {"",      "TEXT", "REFUSAL",   "REASONING",   "IMAGE",
                                        "AUDIO", "FILE", "TOOL_CALL", "TOOL_RESULT", "OTHER"};
    for (; p; p = p->next) {
        lr_buf_addf(out, "%*s%s", depth * 2, "", types[p->type]);
        print_str(out, "id", p->id);
        print_str(out, "name", p->name);
        print_str(out, "text", p->text);
        print_str(out, "media", p->media);
        print_str(out, "data", p->data);
        print_str(out, "url", p->url);
        print_str(out, "detail", p->detail);
        print_str(out, "sign", p->sign);
        if (p->is_error)
            lr_buf_addz(out, " error");
        if (p->redacted)
            lr_buf_addz(out, " redacted");
        print_json(out, "json", p->json);
        print_extras(out, "extra", p->extra);
        lr_buf_addc(out, '\n');
        print_parts(out, p->parts, depth + 1);
    }
}

/* The canonical request but for where it came from. */
static inline void print_request(const struct lr_request *r, struct lr_buf *out)
{
    print_str(out, "model", r->model);
    lr_buf_addf(out, " n=%llu max=%llu stream=%d", (unsigned long long)r->n,
                (unsigned long long)r->max_tokens, r->stream);
    print_str(out, "user", r->user);
    print_str(out, "effort", r->effort);
    lr_buf_addf(out, " choice=%d", r->tool_choice);
    print_str(out, "choice_name", r->tool_choice_name);
    lr_buf_addf(out, " serial=%d format=%d", r->parallel_off, r->format);
    print_str(out, "format_name", r->format_name);
    print_json(out, "schema", r->format_schema);
    print_json(out, "temperature", r->temperature);
    print_json(out, "top_p", r->top_p);
    print_json(out, "top_k", r->top_k);
    print_json(out, "seed", r->seed);
    print_json(out, "top_logprobs", r->top_logprobs);
    for (size_t i = 0; i < r->n_stop; i++)
        print_str(out, "stop", r->stop[i]);
    print_str(out, "bypass", lr_strz(r->bypass));
    print_extras(out, "quiet", r->quiet);
    print_extras(out, "extra", r->extra);
    lr_buf_addc(out, '\n');
    for (const struct lr_msg *m = r->msgs; m; m = m->next) {
        lr_buf_addf(out, "%s", lr_role_name(m->role));
        print_str(out, "name", m->name);
        print_extras(out, "extra", m->extra);
        lr_buf_addc(out, '\n');
        print_parts(out, m->parts, 1);
    }
    for (const struct lr_tool *t = r->tools; t; t = t->next) {
        lr_buf_addz(out, "tool");
        print_str(out, "name", t->name);
        print_str(out, "description", t->description);
        print_json(out, "schema", t->schema);
        print_json(out, "strict", t->strict);
        print_json(out, "json", t->json);
        print_extras(out, "extra", t->extra);
        lr_buf_addc(out, '\n');
    }
    assert_int_equal(out->rc, 0);
}

/* The request in text, or "<error> at <where>: <sentence>". */
static inline int read_request(enum lr_dialect_id d, const char *body, struct lr_buf *out)
{
    struct lr_arena a;
    struct lr_request *r;
    struct lr_err err = {0};
    lr_arena_init(&a, MAX);
    int rc = lr_request_parse(&a, d, lr_strz(body), &r, &err);
    if (rc)
        lr_buf_addf(out, "%s at %s: %s\n", lr_errname(rc), err.where, err.msg);
    else
        print_request(r, out);
    lr_arena_free(&a);
    return rc;
}

/* body of dialect `from` written for `to`; appends the body, or the refusal. */
static inline int translate(enum lr_dialect_id from, enum lr_dialect_id to, struct lr_str body,
                            struct lr_buf *out, struct lr_buf *dropped)
{
    struct lr_arena a;
    struct lr_request *r;
    struct lr_err err = {0};
    lr_arena_init(&a, MAX);
    int rc = lr_request_parse(&a, from, body, &r, &err);
    if (!rc) {
        size_t before = out->len;
        rc = lr_request_write(r, to, LR_STR("m2"), 4096, out, dropped, &err);
        if (rc)
            out->len = before;
    }
    if (rc)
        lr_buf_addf(out, "%s at %s: %s", lr_errname(rc), err.where, err.msg);
    lr_arena_free(&a);
    return rc;
}

/* ---- laws of every dialect's answers, over its golden files ---------------------------------- */

static inline void path(char out[128], const char *name, const char *tail)
{
    (void)snprintf(out, 128, "%s%s", name, tail);
}

static inline void decode_file(enum lr_dialect_id d, const char *name, bool stream, size_t piece,
                               struct lr_buf *log)
{
    char file[128];
    struct lr_buf in;
    struct lr_err err = {0};
    path(file, name, stream ? ".sse" : ".json");
    lr_buf_init(&in, MAX);
    load(file, &in);
    int rc = codec_decode(d, stream, lr_buf_str(&in), piece, log, &err);
    if (rc)
        fail_msg("%s: %s at %s: %s", file, lr_errname(rc), err.where, err.msg);
    lr_buf_free(&in);
}

/* Answers decode to the events written beside them. */
static inline void golden_events(enum lr_dialect_id d, bool stream, const char *const *names,
                                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = names[i];
        char file[128];
        struct lr_buf log, text;
        struct lr_answer_facts f;
        lr_buf_init(&log, MAX);
        lr_buf_init(&text, MAX);
        decode_file(d, name, stream, 0, &log);
        assert_int_equal(lr_answer_facts(lr_buf_str(&log), &f), 0);
        print_log(lr_buf_str(&log), &text);
        path(file, name, stream ? ".sse.events" : ".json.events");
        same_as_golden(file, lr_buf_str(&text));
        lr_buf_free(&log);
        lr_buf_free(&text);
    }
}

/* Events do not depend on how bytes are split. */
static inline void split_law(enum lr_dialect_id d, const char *const *streams, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct lr_buf a, b;
        lr_buf_init(&a, MAX);
        lr_buf_init(&b, MAX);
        decode_file(d, streams[i], true, 0, &a);
        for (size_t piece = 1; piece < 40; piece += 6) {
            lr_buf_reset(&b);
            decode_file(d, streams[i], true, piece, &b);
            same_logs(streams[i], lr_buf_str(&a), lr_buf_str(&b));
        }
        lr_buf_free(&a);
        lr_buf_free(&b);
    }
}

/* A stream and its whole body are one answer. */
static inline void one_answer_law(enum lr_dialect_id d, const char *const *wholes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct lr_buf a, b, ca, cb;
        lr_buf_init(&a, MAX);
        lr_buf_init(&b, MAX);
        lr_buf_init(&ca, MAX);
        lr_buf_init(&cb, MAX);
        decode_file(d, wholes[i], true, 0, &a);
        decode_file(d, wholes[i], false, 0, &b);
        compact(lr_buf_str(&a), &ca);
        compact(lr_buf_str(&b), &cb);
        same_logs(wholes[i], lr_buf_str(&ca), lr_buf_str(&cb));
        lr_buf_free(&a);
        lr_buf_free(&b);
        lr_buf_free(&ca);
        lr_buf_free(&cb);
    }
}

/* Encodes log in this dialect, reads that again, and wants the same answer. */
static inline void round_trip(enum lr_dialect_id d, const char *name, struct lr_str log,
                              bool stream, bool fresh)
{
    struct lr_buf bytes, again, ca, cb;
    struct lr_err err = {0};
    lr_buf_init(&bytes, MAX);
    lr_buf_init(&again, MAX);
    lr_buf_init(&ca, MAX);
    lr_buf_init(&cb, MAX);
    assert_int_equal(encode(d, stream, fresh, log, &bytes), 0);
    int rc = codec_decode(d, stream, lr_buf_str(&bytes), 0, &again, &err);
    if (rc)
        fail_msg("%s: %s in %.*s", name, err.msg, LR_FMT(lr_buf_str(&bytes)));
    compact(log, &ca);
    compact(lr_buf_str(&again), &cb);
    if (!fresh)
        same_logs(name, lr_buf_str(&ca), lr_buf_str(&cb));
    lr_buf_free(&bytes);
    lr_buf_free(&again);
    lr_buf_free(&ca);
    lr_buf_free(&cb);
}

/* Decoding undoes encoding; unknown events, which only streams have, keep `hosted` ones out of the
 * whole form. */
static inline void round_trip_law(enum lr_dialect_id d, const char *const *streams, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct lr_buf log, stored;
        lr_buf_init(&log, MAX);
        lr_buf_init(&stored, MAX);
        decode_file(d, streams[i], true, 0, &log);
        struct lr_answer_facts f;
        assert_int_equal(lr_answer_facts(lr_buf_str(&log), &f), 0);
        if (f.complete) {
            compact(lr_buf_str(&log), &stored);
            round_trip(d, streams[i], lr_buf_str(&log), true, false);
            round_trip(d, streams[i], lr_buf_str(&stored), true, false);
            round_trip(d, streams[i], lr_buf_str(&stored), true, true);
            if (!strstr(streams[i], "hosted"))
                round_trip(d, streams[i], lr_buf_str(&log), false, false);
        }
        lr_buf_free(&log);
        lr_buf_free(&stored);
    }
}

/* Live and replayed, whole and streamed: the bytes written down. */
static inline void golden_bytes(enum lr_dialect_id d, const char *const *streams, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (unsigned k = 0; k < 4; k++) {
            bool stream = k & 1, fresh = k & 2;
            static const char *const tails[] = {".live.json", ".live.sse", ".replay.json",
                                                ".replay.sse"};
            char file[128];
            struct lr_buf log, stored, out;
            lr_buf_init(&log, MAX);
            lr_buf_init(&stored, MAX);
            lr_buf_init(&out, MAX);
            decode_file(d, streams[i], true, 0, &log);
            bool broken = !strcmp(streams[i], "messages-error");
            if (fresh && !broken)
                compact(lr_buf_str(&log), &stored);
            struct lr_buf *from = fresh && !broken ? &stored : &log;
            assert_int_equal(encode(d, stream, fresh, lr_buf_str(from), &out), 0);
            path(file, streams[i], tails[k]);
            same_as_golden(file, lr_buf_str(&out));
            lr_buf_free(&log);
            lr_buf_free(&stored);
            lr_buf_free(&out);
        }
    }
}

/* ---- laws of every dialect's requests ---------------------------------------------------------
 */

/* <name>.json reads as <name>.canonical says. */
static inline void golden_request(enum lr_dialect_id d, const char *name)
{
    char file[128];
    struct lr_buf in, out;
    lr_buf_init(&in, MAX);
    lr_buf_init(&out, MAX);
    path(file, name, ".json");
    load(file, &in);
    assert_int_equal(lr_buf_addc(&in, 0), 0);
    assert_int_equal(read_request(d, in.p, &out), 0);
    path(file, name, ".canonical");
    same_as_golden(file, lr_buf_str(&out));
    lr_buf_free(&in);
    lr_buf_free(&out);
}

/* Each body is refused, or read, with these words: {body, words}. */
static inline void request_says(enum lr_dialect_id d, int rc, const char *const cases[][2],
                                size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct lr_buf out;
        lr_buf_init(&out, MAX);
        int got = read_request(d, cases[i][0], &out);
        assert_int_equal(lr_buf_addc(&out, 0), 0);
        if (got != rc || !strstr(out.p, cases[i][1]))
            fail_msg("case %zu: wanted %s, got %s", i, cases[i][1], out.p);
        lr_buf_free(&out);
    }
}

/* ---- faults -----------------------------------------------------------------------------------
 */

/* Each allocation of a scenario fails once: it says so and leaks nothing. */
static inline void fault_each(int (*scenario)(void *ctx), void *ctx)
{
    for (uint64_t n = 1;; n++) {
        assert_int_equal(lr_fault_arm(n), 0);
        int rc = scenario(ctx);
        bool hit = lr_fault_seen() >= n;
        assert_int_equal(lr_fault_arm(0), 0);
        if (rc != (hit ? LR_ENOMEM : 0))
            fail_msg("fault %llu: %s", (unsigned long long)n, lr_errname(rc));
        if (!hit)
            return;
    }
}

struct parse_scenario {
    enum lr_dialect_id d;
    struct lr_str body;
};

static inline int parse_only(void *ctx)
{
    const struct parse_scenario *p = ctx;
    struct lr_arena a;
    struct lr_request *r;
    lr_arena_init(&a, MAX);
    int rc = lr_request_parse(&a, p->d, p->body, &r, NULL);
    lr_arena_free(&a);
    return rc;
}

static inline void request_fault_law(enum lr_dialect_id d, const char *file)
{
    struct lr_buf in;
    lr_buf_init(&in, MAX);
    load(file, &in);
    fault_each(parse_only, &(struct parse_scenario){d, lr_buf_str(&in)});
    lr_buf_free(&in);
}

struct answer_scenario {
    enum lr_dialect_id d;
    struct lr_str bytes;
};

/* Reads an answer and writes it streamed and whole. */
static inline int read_and_write(void *ctx)
{
    const struct answer_scenario *p = ctx;
    struct lr_buf log, out;
    lr_buf_init(&log, MAX);
    lr_buf_init(&out, MAX);
    struct lr_err err = {0};
    int rc = codec_decode(p->d, true, p->bytes, 0, &log, &err);
    for (unsigned k = 0; k < 4 && !rc; k++) {
        lr_buf_reset(&out);
        rc = encode(p->d, k & 1, k & 2, lr_buf_str(&log), &out);
    }
    lr_buf_free(&log);
    lr_buf_free(&out);
    return rc;
}

static inline void fault_law(enum lr_dialect_id d, const char *const *streams, size_t n_streams)
{
    for (size_t i = 0; i < n_streams; i++) {
        char file[128];
        struct lr_buf in;
        path(file, streams[i], ".sse");
        lr_buf_init(&in, MAX);
        load(file, &in);
        fault_each(read_and_write, &(struct answer_scenario){d, lr_buf_str(&in)});
        lr_buf_free(&in);
    }
}

#endif

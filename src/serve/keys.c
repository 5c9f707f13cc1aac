/* SPDX-License-Identifier: Apache-2.0
 * serve/keys.c - the client key file of managed mode: JSON lines, keyed hashes only.
 *
 *   {"larder_keys":1,"salt":"<64 hex>"}
 *   {"id":"3f2a9c01b7d4","tenant":"team-a","hash":"<64 hex>","created":1767225600}
 *   {"id":"...","tenant":"...","hash":"...","created":...,"revoked":1767229200}
 *
 * A key is "lk-" and 43 characters of base62 drawn from the system's generator (256 bits); the file
 * keeps BLAKE3(key) keyed with the file's salt. The file is replaced as a whole (write, fsync, rename),
 * so a reader sees the old or the new one. docs/formats/keys.md is the contract.
 */
#include "serve/serve_int.h"

#include <stdio.h>

#define KEYS_FILE_MAX LR_MIB(16)
#define KEYS_MAX 100000
#define SECRET_RANDOM 43

struct keys_file {
    uint8_t salt[32];
    struct lr_key_row *rows;
    size_t n;
};

static bool read_text(const struct lr_json *o, const char *name, char *out, size_t cap)
{
    struct lr_str s;
    if (!lr_json_text(lr_json_get(o, name), &s) || s.n >= cap || s.n == 0)
        return false;
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return true;
}

static int read_row(const struct lr_json *o, struct lr_key_row *row)
{
    uint8_t hash[32];
    LR_FAIL_IF(!read_text(o, "id", row->id, sizeof row->id), LR_EPARSE);
    LR_FAIL_IF(!read_text(o, "tenant", row->tenant, sizeof row->tenant), LR_EPARSE);
    LR_FAIL_IF(!read_text(o, "hash", row->hash, sizeof row->hash), LR_EPARSE);
    LR_TRY(lr_unhex(lr_strz(row->hash), hash, sizeof hash));
    LR_FAIL_IF(!lr_json_u64(lr_json_get(o, "created"), &row->created_s), LR_EPARSE);
    const struct lr_json *revoked = lr_json_get(o, "revoked");
    LR_FAIL_IF(revoked && !lr_json_u64(revoked, &row->revoked_s), LR_EPARSE);
    return 0;
}

static int read_head(const struct lr_json *o, struct keys_file *f)
{
    uint64_t version;
    struct lr_str salt;
    LR_FAIL_IF(!lr_json_u64(lr_json_get(o, "larder_keys"), &version), LR_EPARSE);
    LR_FAIL_IF(version != 1, LR_EVERSION);
    LR_FAIL_IF(!lr_json_text(lr_json_get(o, "salt"), &salt), LR_EPARSE);
    return lr_unhex(salt, f->salt, sizeof f->salt);
}

static int parse_lines(struct lr_arena *a, struct lr_str text, struct keys_file *f, unsigned *line)
{
    for (*line = 1; text.p && text.n; ++*line) {
        struct lr_str s = lr_str_trim(lr_str_cut(&text, '\n'));
        if (!s.n)
            continue;
        struct lr_json *o;
        lr_arena_reset(a);
        LR_TRY(lr_json_parse(a, s, NULL, &o, NULL));
        if (*line == 1) {
            LR_TRY(read_head(o, f));
            continue;
        }
        LR_FAIL_IF(f->n >= KEYS_MAX, LR_EOVER);
        if ((f->n & (f->n + 1)) == 0) { /* room for 2^k - 1 rows: double */
            void *rows = lr_realloc(f->rows, (2 * f->n + 2) * sizeof *f->rows);
            LR_FAIL_IF(!rows, LR_ENOMEM);
            f->rows = rows;
        }
        struct lr_key_row row = {0};
        LR_TRY(read_row(o, &row));
        f->rows[f->n++] = row;
    }
    return 0;
}

static int load(const char *path, struct keys_file *f, struct lr_err *err)
{
    struct lr_buf b;
    struct lr_arena a;
    unsigned line = 0;
    lr_buf_init(&b, KEYS_FILE_MAX);
    lr_arena_init(&a, LR_MIB(1));
    *f = (struct keys_file){.rows = NULL};
    int rc = lr_io_read_file(path, &b);
    if (!rc)
        rc = b.len ? parse_lines(&a, lr_buf_str(&b), f, &line) : LR_EPARSE;
    if (rc) {
        char where[120];
        int k = snprintf(where, sizeof where, "%s:%u", path, line);
        lr_err_set(err, rc, k > 0 ? where : path, "the keys file cannot be used: %s", lr_strerror(rc));
        lr_free(f->rows);
        f->rows = NULL;
        f->n = 0;
    }
    lr_arena_free(&a);
    lr_buf_free(&b);
    return rc;
}

static int save(const char *path, const struct keys_file *f)
{
    struct lr_buf b;
    struct lr_jw w;
    char hex[65];
    lr_buf_init(&b, KEYS_FILE_MAX);
    lr_jw_init(&w, &b);
    lr_hex(f->salt, sizeof f->salt, hex);
    lr_buf_addf(&b, "{\"larder_keys\":1,\"salt\":\"%s\"}\n", hex);
    for (size_t i = 0; i < f->n; i++) {
        lr_jw_init(&w, &b);
        lr_jw_obj(&w);
        lr_jw_key(&w, "id");
        lr_jw_strz(&w, f->rows[i].id);
        lr_jw_key(&w, "tenant");
        lr_jw_strz(&w, f->rows[i].tenant);
        lr_jw_key(&w, "hash");
        lr_jw_strz(&w, f->rows[i].hash);
        lr_jw_key(&w, "created");
        lr_jw_u64(&w, f->rows[i].created_s);
        if (f->rows[i].revoked_s) {
            lr_jw_key(&w, "revoked");
            lr_jw_u64(&w, f->rows[i].revoked_s);
        }
        lr_jw_end(&w);
        lr_buf_addc(&b, '\n');
    }
    int rc = b.rc ? b.rc : lr_io_write_file(path, lr_buf_str(&b), 0600);
    lr_buf_free(&b);
    return rc;
}

static void draw_secret(char out[64])
{
    static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    memcpy(out, "lk-", 3);
    for (int i = 0; i < SECRET_RANDOM;) {
        uint8_t byte;
        lr_random_bytes(&byte, 1);
        if (byte < 248) /* 4 * 62: no letter is likelier */
            out[3 + i++] = base62[byte % 62];
    }
    out[3 + SECRET_RANDOM] = 0;
}

static bool tenant_name_ok(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(s);
    return n > 0 && n < 64 && strspn(s, allowed) == n;
}

int lr_keys_add(const char *path, const char *tenant, uint64_t now_s, char secret[64], char id[13],
                struct lr_err *err)
{
    struct keys_file f;
    if (!tenant_name_ok(tenant))
        return lr_err_set(err, LR_EINVAL, tenant,
                          "a tenant's name is 1 to 63 letters, digits, '.', '_' or '-'");
    int rc = load(path, &f, NULL);
    if (rc == LR_ENOENT) {
        lr_random_bytes(f.salt, sizeof f.salt);
        rc = 0;
    } else if (rc) {
        return lr_err_set(err, rc, path, "the keys file cannot be used: %s", lr_strerror(rc));
    }
    struct lr_key_row *rows = lr_realloc(f.rows, (f.n + 1) * sizeof *rows);
    if (!rows) {
        lr_free(f.rows);
        return LR_ENOMEM;
    }
    f.rows = rows;
    struct lr_key_row *row = &rows[f.n++];
    *row = (struct lr_key_row){.created_s = now_s};
    uint8_t raw[6];
    struct lr_digest d;
    lr_random_bytes(raw, sizeof raw);
    lr_hex(raw, sizeof raw, row->id);
    memcpy(row->tenant, tenant, strlen(tenant) + 1);
    draw_secret(secret);
    lr_blake3_keyed(f.salt, lr_strz(secret), &d);
    lr_hex(d.b, sizeof d.b, row->hash);
    memcpy(id, row->id, sizeof row->id);
    rc = save(path, &f);
    lr_free(f.rows);
    return rc ? lr_err_set(err, rc, path, "the keys file cannot be written: %s", lr_strerror(rc)) : 0;
}

int lr_keys_revoke(const char *path, const char *id, uint64_t now_s, struct lr_err *err)
{
    struct keys_file f;
    LR_TRY(load(path, &f, err));
    int rc = lr_err_set(NULL, LR_ENOENT, "", "no such key");
    for (size_t i = 0; i < f.n; i++)
        if (strcmp(f.rows[i].id, id) == 0) {
            f.rows[i].revoked_s = f.rows[i].revoked_s ? f.rows[i].revoked_s : now_s;
            rc = save(path, &f);
        }
    lr_free(f.rows);
    return rc ? lr_err_set(err, rc, id, "the key cannot be revoked: %s", lr_strerror(rc)) : 0;
}

int lr_keys_list(const char *path, struct lr_key_row **rows, size_t *n, struct lr_err *err)
{
    struct keys_file f;
    LR_TRY(load(path, &f, err));
    *rows = f.rows;
    *n = f.n;
    return 0;
}

int lr_keys_load(const char *path, uint8_t salt[32], struct lr_key_row **rows, size_t *n,
                 struct lr_err *err)
{
    struct keys_file f;
    LR_TRY(load(path, &f, err));
    memcpy(salt, f.salt, 32);
    *rows = f.rows;
    *n = f.n;
    return 0;
}

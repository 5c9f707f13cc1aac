/* SPDX-License-Identifier: Apache-2.0
 * nn/gguf_write.c - the GGUF writer: version 3, little-endian, streaming.
 *
 *   put*      -> pairs       (buffer)
 *   declare*  -> directory   (buffer), sizes, running offset
 *   data*     -> first: head | pairs | directory | padding, then bytes as they come, each tensor
 *                padded to the alignment
 *   finish    -> PATH.part is read back by our own reader, synced, renamed to PATH
 *
 * Reading back is what makes the rules one: repeated keys, names too long, metadata over the maxima
 * are found by the code that would refuse them later; the writer itself checks only what it needs
 * to stay in step. A failure sticks and leaves PATH as it was. Not safe against two writers of one
 * PATH: both use PATH.part.
 */
#include "nn/nn_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct lr_nn_gguf_writer {
    char *path, *part;
    int fd;
    int rc; /* the first failure */
    uint32_t align;
    bool began; /* the directory is written */
    struct lr_buf pairs, directory;
    struct lr_buf sizes; /* uint64_t each: bytes of declared tensors */
    uint64_t n_pairs, n_tensors;
    uint64_t offset;      /* of the next tensor to declare */
    uint64_t now, filled; /* tensor being written, and its bytes so far */
};

static int stick(struct lr_nn_gguf_writer *w, int rc)
{
    if (!w->rc)
        w->rc = rc;
    return w->rc;
}

static uint64_t pad_to(uint64_t n, uint64_t align)
{
    return (align - n % align) % align;
}

static char *with_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), k = strlen(suffix);
    char *p = lr_alloc(n + k + 1);
    if (p) {
        memcpy(p, path, n);
        memcpy(p + n, suffix, k + 1);
    }
    return p;
}

/* Frees; `keep`: the file was renamed, or never made. */
static void discard(struct lr_nn_gguf_writer *w, bool keep)
{
    lr_io_close(w->fd);
    if (!keep && unlink(w->part) && errno != ENOENT)
        lr_log(LR_LOG_WARN, "nn", "event=leftover_file errno=%d", errno);
    lr_buf_free(&w->pairs);
    lr_buf_free(&w->directory);
    lr_buf_free(&w->sizes);
    lr_free(w->path);
    lr_free(w->part);
    lr_free(w);
}

int lr_nn_gguf_create(struct lr_nn_gguf_writer **out, const char *path, uint32_t align,
                      struct lr_err *err)
{
    if (align && (align < 8 || align > LR_NN_ALIGN_MAX || (align & (align - 1))))
        return lr_err_set(err, LR_EINVAL, "alignment", "%u is no power of two from 8 to %zu", align,
                          LR_NN_ALIGN_MAX);
    struct lr_nn_gguf_writer *w = lr_new(struct lr_nn_gguf_writer);
    if (!w)
        return lr_err_set(err, LR_ENOMEM, "file", "out of memory");
    w->fd = -1;
    w->align = align ? align : 32;
    lr_buf_init(&w->pairs, LR_NN_META_MAX);
    lr_buf_init(&w->directory, LR_NN_META_MAX);
    lr_buf_init(&w->sizes, LR_NN_TENSORS_MAX * sizeof(uint64_t));
    w->path = lr_strndup(path, strlen(path));
    w->part = with_suffix(path, ".part");
    int rc = w->path && w->part ? 0 : LR_ENOMEM;
    if (!rc)
        rc = lr_io_open(w->part, O_WRONLY | O_CREAT | O_TRUNC, 0644, &w->fd);
    if (!rc && align)
        rc = lr_nn_gguf_put_u32(w, "general.alignment", align);
    if (rc) {
        discard(w, w->fd < 0);
        return lr_err_set(err, rc, "file", "cannot be written: %s", lr_strerror(rc));
    }
    *out = w;
    return 0;
}

/* ---- metadata ---- */

static void add_u32(struct lr_buf *b, uint32_t v)
{
    uint8_t p[4];
    lr_put_le32(p, v);
    (void)lr_buf_add(b, p, 4); /* sticks: looked at once a pair */
}

static void add_u64(struct lr_buf *b, uint64_t v)
{
    uint8_t p[8];
    lr_put_le64(p, v);
    (void)lr_buf_add(b, p, 8); /* sticks */
}

static void add_text(struct lr_buf *b, struct lr_str s)
{
    add_u64(b, s.n);
    (void)lr_buf_adds(b, s); /* sticks */
}

int lr_nn_gguf_put(struct lr_nn_gguf_writer *w, const struct lr_nn_kv *kv)
{
    struct lr_buf *b = &w->pairs;
    bool array = kv->type == LR_NN_KV_ARRAY;
    LR_FAIL_IF(w->rc, w->rc);
    if (w->began || kv->elem == LR_NN_KV_ARRAY || (!array && (kv->n != 1 || kv->elem != kv->type)))
        return stick(w, LR_EINVAL);
    add_text(b, kv->key);
    add_u32(b, (uint32_t)kv->type);
    if (array) {
        add_u32(b, (uint32_t)kv->elem);
        add_u64(b, kv->n);
    }
    if (kv->elem == LR_NN_KV_TEXT)
        for (size_t i = 0; i < kv->n; i++)
            add_text(b, ((const struct lr_str *)kv->data)[i]);
    else
        (void)lr_buf_add(b, kv->data, kv->n * lr_nn_kv_bytes(kv->elem)); /* sticks */
    w->n_pairs++;
    return stick(w, b->rc);
}

static int put_scalar(struct lr_nn_gguf_writer *w, const char *key, enum lr_nn_kv_type type,
                      const void *value)
{
    struct lr_nn_kv kv = {lr_strz(key), type, type, 1, value};
    return lr_nn_gguf_put(w, &kv);
}

int lr_nn_gguf_put_u32(struct lr_nn_gguf_writer *w, const char *key, uint32_t v)
{
    return put_scalar(w, key, LR_NN_KV_U32, &v);
}

int lr_nn_gguf_put_u64(struct lr_nn_gguf_writer *w, const char *key, uint64_t v)
{
    return put_scalar(w, key, LR_NN_KV_U64, &v);
}

int lr_nn_gguf_put_f32(struct lr_nn_gguf_writer *w, const char *key, float v)
{
    return put_scalar(w, key, LR_NN_KV_F32, &v);
}

int lr_nn_gguf_put_bool(struct lr_nn_gguf_writer *w, const char *key, bool v)
{
    uint8_t byte = v;
    return put_scalar(w, key, LR_NN_KV_BOOL, &byte);
}

int lr_nn_gguf_put_text(struct lr_nn_gguf_writer *w, const char *key, struct lr_str v)
{
    return put_scalar(w, key, LR_NN_KV_TEXT, &v);
}

/* ---- tensors ---- */

int lr_nn_gguf_declare(struct lr_nn_gguf_writer *w, const struct lr_nn_tensor *t)
{
    struct lr_nn_tensor sized = *t;
    struct lr_buf *b = &w->directory;
    LR_FAIL_IF(w->rc, w->rc);
    int32_t number = (unsigned)t->type < LR_NN_TYPES ? lr_nn_type_info(t->type)->ggml : -1;
    if (w->began || t->dims < 1 || t->dims > LR_NN_DIMS || number < 0)
        return stick(w, LR_EINVAL);
    int rc = lr_nn_tensor_size(&sized);
    uint64_t end = w->offset;
    if (!rc &&
        (__builtin_add_overflow(end, sized.bytes, &end) ||
         __builtin_add_overflow(end, pad_to(sized.bytes, w->align), &end) || end > INT64_MAX / 2))
        rc = LR_EOVER;
    if (rc)
        return stick(w, rc);
    add_text(b, t->name);
    add_u32(b, t->dims);
    for (uint32_t i = 0; i < t->dims; i++)
        add_u64(b, t->ne[i]);
    add_u32(b, (uint32_t)number);
    add_u64(b, w->offset);
    add_u64(&w->sizes, sized.bytes);
    w->offset = end;
    w->n_tensors++;
    return stick(w, b->rc ? b->rc : w->sizes.rc);
}

static int write_zeros(struct lr_nn_gguf_writer *w, uint64_t n)
{
    static const uint8_t zeros[512];
    while (n && !w->rc) {
        size_t k = n < sizeof zeros ? (size_t)n : sizeof zeros;
        stick(w, lr_io_write(w->fd, zeros, k));
        n -= k;
    }
    return w->rc;
}

/* Everything before the data. */
static int begin(struct lr_nn_gguf_writer *w)
{
    uint8_t head[24];
    w->began = true;
    memcpy(head, "GGUF", 4);
    lr_put_le32(head + 4, 3);
    lr_put_le64(head + 8, w->n_tensors);
    lr_put_le64(head + 16, w->n_pairs);
    LR_TRY(stick(w, lr_io_write(w->fd, head, sizeof head)));
    LR_TRY(stick(w, lr_io_write(w->fd, w->pairs.p, w->pairs.len)));
    LR_TRY(stick(w, lr_io_write(w->fd, w->directory.p, w->directory.len)));
    return write_zeros(w, pad_to(sizeof head + w->pairs.len + w->directory.len, w->align));
}

int lr_nn_gguf_data(struct lr_nn_gguf_writer *w, const void *p, size_t n)
{
    const uint8_t *from = p;
    LR_FAIL_IF(w->rc, w->rc);
    if (!w->began)
        LR_TRY(begin(w));
    while (n) {
        if (w->now == w->n_tensors)
            return stick(w, LR_EINVAL); /* more bytes than were announced */
        uint64_t size = lr_le64(w->sizes.p + w->now * 8), rest = size - w->filled;
        size_t k = n < rest ? n : (size_t)rest;
        LR_TRY(stick(w, lr_io_write(w->fd, from, k)));
        from += k;
        n -= k;
        w->filled += k;
        if (w->filled == size) {
            LR_TRY(write_zeros(w, pad_to(size, w->align)));
            w->now++;
            w->filled = 0;
        }
    }
    return 0;
}

/* Our own reader accepts what we wrote. */
static int read_back(struct lr_nn_gguf_writer *w, struct lr_err *err)
{
    struct lr_nn_gguf *g;
    LR_TRY(lr_nn_gguf_open(&g, w->part, NULL, err));
    lr_nn_gguf_close(g);
    return 0;
}

int lr_nn_gguf_finish(struct lr_nn_gguf_writer *w, struct lr_err *err)
{
    int rc = w->rc;
    if (!rc && !w->began)
        rc = begin(w);
    if (!rc && w->now != w->n_tensors)
        rc = lr_err_set(err, LR_EINVAL, "data", "of tensor %llu is incomplete",
                        (unsigned long long)w->now);
    if (!rc) {
        rc = read_back(w, err);
        if (rc == LR_EPARSE || rc == LR_EOVER || rc == LR_EVERSION)
            rc = LR_EINVAL; /* the caller's pairs or tensors are at fault */
    }
    if (!rc)
        rc = lr_io_fsync(w->fd);
    if (!rc)
        rc = lr_io_rename(w->part, w->path);
    if (rc)
        lr_err_set(err, rc, "file", "cannot be written: %s", lr_strerror(rc));
    discard(w, rc == 0);
    return rc;
}

void lr_nn_gguf_abandon(struct lr_nn_gguf_writer *w)
{
    if (w)
        discard(w, false);
}

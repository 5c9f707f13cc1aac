/* SPDX-License-Identifier: Apache-2.0
 * store/segment.c - the bytes of a segment file: records, commit marks, footer. No I/O.
 *
 *   0        4096                                              end          size
 *   | head   | record | record | pad | large record ...        | rows | 0 | foot 64 |
 *
 *   record   | head 64 | object header | 0 | payload | 0 | mark 64 |     docs/formats/segment.md
 *
 * Idea. An image in memory is a record on disk: the writer hands the memory of a large object to
 * the system as it lies, and a load puts a record back where a reader can use it. Records are
 * multiples of 64 bytes; a large one (payload from 64 KiB) starts at a page, has its payload at a
 * page and ends at one. What is written at once starts and ends at pages, small records packed, the
 * rest of the last page a PAD.
 *
 * Trust. The head has a sum, the mark repeats the head's sum and comes last, the object header sums
 * itself and every part of the payload. So each of "begun", "complete" and "undamaged" shows. All
 * sums of the file are seeded with its random salt: a client who stores the image of a record as its
 * payload cannot make a scan believe in it, as it does not know the salt.
 *
 * Invariants: total is a multiple of 64 and at least 128; offsets and lengths that come from a file
 * are checked against it before use; nothing is read past the given bytes.
 */
#include "store/store_int.h"

#define RECORD_MAGIC  "LKVR"
#define MARK_MAGIC    "LKVC"
#define SEGMENT_MAGIC "LKVS"
#define FOOT_MAGIC    "LKVF"
#define MAJOR 1u
#define ROW_FIXED 152u

struct lr_image lr_image_of(size_t head, uint64_t payload)
{
    bool large = payload >= LR_LARGE;
    size_t to = large ? LR_VFS_ALIGN : 64;
    struct lr_image i = {.large = large};
    i.payload = (size_t)lr_round_up(LR_RECORD_HEAD + head, to);
    i.total = (size_t)lr_round_up(i.payload + payload + LR_RECORD_MARK, to);
    return i;
}

static uint64_t sum(const void *p, size_t n, uint64_t salt)
{
    return lr_hash64(lr_str(p, n), salt);
}

static void write_head(const struct lr_record *r, uint64_t salt, uint8_t *p)
{
    memset(p, 0, LR_RECORD_HEAD);
    memcpy(p, RECORD_MAGIC, 4);
    p[4] = (uint8_t)r->type;
    lr_put_le64(p + 8, r->total);
    lr_put_le64(p + 16, r->seq);
    lr_put_le32(p + 24, r->head);
    lr_put_le64(p + 32, r->payload);
    lr_put_le64(p + 56, sum(p, 56, salt));
}

void lr_record_write(const struct lr_record *r, uint64_t salt, uint8_t *image)
{
    write_head(r, salt, image);
    uint8_t *mark = image + r->total - LR_RECORD_MARK;
    if (r->type != LR_RECORD_OBJECT) {
        memset(image + LR_RECORD_HEAD, 0, 64);
        memcpy(image + LR_RECORD_HEAD, r->id.b, 32);
        lr_put_le64(image + LR_RECORD_HEAD + 32, r->value);
    } else {
        size_t at = LR_RECORD_HEAD + r->head;
        struct lr_image i = lr_image_of(r->head, r->payload);
        memset(image + at, 0, i.payload - at); /* no old bytes of others between */
        at = i.payload + (size_t)r->payload;
        memset(image + at, 0, (size_t)(mark - image) - at);
    }
    memset(mark, 0, LR_RECORD_MARK);
    memcpy(mark, MARK_MAGIC, 4);
    lr_put_le64(mark + 8, r->seq);
    lr_put_le64(mark + 16, lr_le64(image + 56));
    /* Notes are guarded as a whole; objects guard themselves. */
    size_t note = r->type == LR_RECORD_OBJECT ? 0 : 64;
    lr_put_le64(mark + 24, sum(image + LR_RECORD_HEAD, note, salt));
    lr_put_le64(mark + 56, sum(mark, 56, salt));
}

void lr_record_pad(size_t n, uint64_t salt, uint8_t *out)
{
    memset(out, 0, n);
    write_head(&(struct lr_record){.type = LR_RECORD_PAD, .total = n}, salt, out);
}

/* Do the lengths of a head fit each other? */
static bool fits(const struct lr_record *r)
{
    if (r->total % 64 || r->total < 64 || r->total > LR_RECORD_MAX)
        return false;
    if (r->type == LR_RECORD_PAD)
        return r->total < LR_VFS_ALIGN && !r->head && !r->payload;
    if (r->type != LR_RECORD_OBJECT)
        return r->total == LR_RECORD_NOTE && !r->head && !r->payload;
    return r->head <= LR_OBJECT_HEAD_MAX && r->payload <= LR_OBJECT_VALUE_MAX &&
           lr_image_of(r->head, r->payload).total == r->total;
}

int lr_record_head(const uint8_t *p, uint64_t salt, struct lr_record *r)
{
    LR_FAIL_IF(memcmp(p, RECORD_MAGIC, 4) || lr_le64(p + 56) != sum(p, 56, salt), LR_ECORRUPT);
    LR_FAIL_IF(p[4] < LR_RECORD_OBJECT || p[4] > LR_RECORD_WIPE, LR_EVERSION);
    struct lr_record x = {
        .type = (enum lr_record_type)p[4],
        .total = lr_le64(p + 8),
        .seq = lr_le64(p + 16),
        .head = lr_le32(p + 24),
        .payload = lr_le64(p + 32),
    };
    LR_FAIL_IF(!fits(&x), LR_ECORRUPT);
    *r = x;
    return 0;
}

bool lr_payload_ok(const uint8_t *head, size_t head_n, const struct lr_object *o,
                   const uint8_t *payload)
{
    for (uint32_t i = 0; i < o->n_parts; i++) {
        struct lr_object_part part = lr_object_part(head, head_n, o, i);
        if (lr_hash64(lr_str(payload + part.offset, (size_t)part.bytes), 0) != part.sum)
            return false;
    }
    return true;
}

int lr_record_check(const uint8_t *image, uint64_t salt, bool deep, struct lr_record *r,
                    struct lr_object *out)
{
    struct lr_record x;
    LR_TRY(lr_record_head(image, salt, &x));
    LR_FAIL_IF(x.type == LR_RECORD_PAD || x.total != r->total, LR_ECORRUPT);
    const uint8_t *mark = image + x.total - LR_RECORD_MARK, *body = image + LR_RECORD_HEAD;
    size_t note = x.type == LR_RECORD_OBJECT ? 0 : 64;
    LR_FAIL_IF(memcmp(mark, MARK_MAGIC, 4) || lr_le64(mark + 56) != sum(mark, 56, salt) ||
                   lr_le64(mark + 8) != x.seq || lr_le64(mark + 16) != lr_le64(image + 56) ||
                   lr_le64(mark + 24) != sum(body, note, salt),
               LR_ECORRUPT);
    struct lr_object o = {0};
    if (note) {
        memcpy(x.id.b, body, 32);
        x.value = lr_le64(body + 32);
    } else {
        size_t head;
        LR_TRY(lr_object_decode(body, x.head, &o, &head));
        LR_FAIL_IF(head != x.head || o.payload != x.payload, LR_ECORRUPT);
        const uint8_t *payload = image + lr_image_of(x.head, x.payload).payload;
        LR_FAIL_IF(deep && !lr_payload_ok(body, head, &o, payload), LR_ECORRUPT);
        x.id = o.id;
    }
    *r = x;
    if (out)
        *out = o;
    return 0;
}

/* ---- one wrong bit ---- */

bool lr_blank(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Flips the one bit of n bytes at p that makes their sum the one at `at`, or that bit of it. */
static bool mend(uint8_t *p, size_t n, uint64_t salt, uint8_t *at)
{
    uint64_t want = lr_le64(at), have = sum(p, n, salt);
    if (want == have)
        return true;
    if (__builtin_popcountll(want ^ have) == 1) {
        lr_put_le64(at, have);
        return true;
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (sum(p, n, salt) == want)
            return true;
        p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return false;
}

bool lr_block_mend(uint8_t *p, uint64_t salt)
{
    return mend(p, 56, salt, p + 56);
}

bool lr_note_mend(uint8_t *p, uint64_t salt)
{
    uint8_t *mark = p + LR_RECORD_NOTE - LR_RECORD_MARK;
    return mend(p, 56, salt, p + 56) && mend(mark, 56, salt, mark + 56) &&
           mend(p + LR_RECORD_HEAD, 64, salt, mark + 24);
}

bool lr_object_mend(uint8_t *head, size_t n)
{
    return n > 8 && mend(head, n - 8, 0, head + n - 8);
}

/* ---- the file's ends ---- */

void lr_segment_head(const struct lr_segment_info *s, uint8_t out[LR_SEGMENT_HEAD])
{
    memset(out, 0, LR_SEGMENT_HEAD);
    memcpy(out, SEGMENT_MAGIC, 4);
    out[4] = MAJOR;
    lr_put_le32(out + 8, s->number);
    lr_put_le64(out + 16, s->salt);
    lr_put_le64(out + 24, s->since);
    lr_put_le64(out + 56, sum(out, 56, 0));
}

int lr_segment_head_read(const uint8_t p[LR_SEGMENT_HEAD], struct lr_segment_info *out)
{
    LR_FAIL_IF(memcmp(p, SEGMENT_MAGIC, 4) || lr_le64(p + 56) != sum(p, 56, 0), LR_ECORRUPT);
    LR_FAIL_IF(p[4] != MAJOR, LR_EVERSION);
    out->number = lr_le32(p + 8);
    out->salt = lr_le64(p + 16);
    out->since = lr_le64(p + 24);
    return 0;
}

/* Row: u32 bytes, u8 type, u8 kind, u16 space bytes, u32 name bytes, u32 head, then u64s. */
int lr_row_add(struct lr_buf *b, const struct lr_row *r)
{
    const struct lr_object *o = &r->o;
    uint8_t p[ROW_FIXED] = {0};
    size_t n = (size_t)lr_round_up(ROW_FIXED + o->space.n + o->name.n, 8);
    lr_put_le32(p, (uint32_t)n);
    p[4] = (uint8_t)r->type;
    p[5] = (uint8_t)o->kind;
    lr_put_le16(p + 6, (uint16_t)o->space.n);
    lr_put_le32(p + 8, (uint32_t)o->name.n);
    lr_put_le32(p + 12, r->head);
    lr_put_le64(p + 16, r->off);
    lr_put_le64(p + 24, r->total);
    lr_put_le64(p + 32, r->seq);
    memcpy(p + 40, r->id.b, 32);
    lr_put_le64(p + 72, r->value);
    lr_put_le64(p + 80, o->tenant);
    lr_put_le64(p + 88, o->payload);
    lr_put_le64(p + 96, o->created_ms);
    lr_put_le64(p + 104, o->expires_ms);
    lr_put_le64(p + 112, o->position);
    lr_put_le32(p + 120, o->epoch);
    lr_put_le32(p + 124, o->tokens);
    lr_put_le32(p + 128, o->fidelity);
    memcpy(p + 132, &o->cost, 4);
    static const char zeros[8];
    size_t pad = n - ROW_FIXED - o->space.n - o->name.n;
    LR_TRY(lr_buf_add(b, p, sizeof p));
    LR_TRY(lr_buf_adds(b, o->space));
    LR_TRY(lr_buf_adds(b, o->name));
    return lr_buf_add(b, zeros, pad);
}

int lr_row_next(struct lr_str *rest, struct lr_row *out)
{
    if (!rest->n)
        return 0;
    LR_FAIL_IF(rest->n < ROW_FIXED, LR_ECORRUPT);
    const char *p = rest->p;
    struct lr_row r = {
        .type = (enum lr_record_type)(uint8_t)p[4],
        .head = lr_le32(p + 12),
        .off = lr_le64(p + 16),
        .total = lr_le64(p + 24),
        .seq = lr_le64(p + 32),
        .value = lr_le64(p + 72),
        .o = {.kind = (enum lr_object_kind)(uint8_t)p[5],
              .tenant = lr_le64(p + 80),
              .payload = lr_le64(p + 88),
              .created_ms = lr_le64(p + 96),
              .expires_ms = lr_le64(p + 104),
              .position = lr_le64(p + 112),
              .epoch = lr_le32(p + 120),
              .tokens = lr_le32(p + 124),
              .fidelity = lr_le32(p + 128)},
    };
    size_t n = lr_le32(p), space = lr_le16(p + 6), name = lr_le32(p + 8);
    memcpy(r.id.b, p + 40, 32);
    memcpy(&r.o.cost, p + 132, 4);
    r.o.id = r.id;
    struct lr_record as = {r.type, r.total, r.seq, r.head, r.o.payload, r.id, r.value};
    LR_FAIL_IF(n > rest->n || n % 8 || space > LR_OBJECT_TEXT_MAX || name > LR_OBJECT_NAME_MAX ||
                   ROW_FIXED + space + name > n || r.type < LR_RECORD_OBJECT ||
                   r.type > LR_RECORD_WIPE || r.type == LR_RECORD_PAD || r.o.kind > LR_OBJECT_OPAQUE ||
                   r.o.fidelity > LR_OBJECT_LOSSLESS || r.off % 64 || !fits(&as) ||
                   !(r.o.cost >= 0 && r.o.cost < 1e30f),
               LR_ECORRUPT);
    r.o.space = lr_str(p + ROW_FIXED, space);
    r.o.name = lr_str(p + ROW_FIXED + space, name);
    *rest = lr_str(p + n, rest->n - n);
    *out = r;
    return 1;
}

void lr_foot_write(uint64_t salt, uint64_t end, struct lr_str rows, uint8_t out[LR_SEGMENT_FOOT])
{
    memset(out, 0, LR_SEGMENT_FOOT);
    memcpy(out, FOOT_MAGIC, 4);
    out[4] = MAJOR;
    lr_put_le64(out + 8, end);
    lr_put_le64(out + 16, rows.n);
    lr_put_le64(out + 24, lr_hash64(rows, salt));
    lr_put_le64(out + 56, sum(out, 56, salt));
}

int lr_foot_read(const uint8_t p[LR_SEGMENT_FOOT], uint64_t salt, struct lr_foot *out)
{
    LR_FAIL_IF(memcmp(p, FOOT_MAGIC, 4) || lr_le64(p + 56) != sum(p, 56, salt), LR_ECORRUPT);
    LR_FAIL_IF(p[4] != MAJOR, LR_EVERSION);
    *out = (struct lr_foot){lr_le64(p + 8), lr_le64(p + 16), lr_le64(p + 24)};
    return 0;
}

uint8_t *lr_pages(size_t n, void **base)
{
    uint8_t *p = lr_alloc(n + LR_VFS_ALIGN);
    *base = p;
    return p ? p + (LR_VFS_ALIGN - (uintptr_t)p % LR_VFS_ALIGN) % LR_VFS_ALIGN : NULL;
}

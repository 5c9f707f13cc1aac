/* SPDX-License-Identifier: Apache-2.0
 * store/recover.c - from segments to the index: footers where there are any, else every record.
 *
 * Idea. A sealed segment says in its footer what it holds: one read of some MiB for gigabytes of
 * data. A segment without one (the process or the machine died, or its disk failed) is read from end
 * to end, every record checked down to its payload, and then gets its footer, so the next start
 * is quick. Segments may be read in any order: of two records of one id the greater sequence number
 * counts, and notes (GONE, PIN, EXPIRE, EPOCH) carry numbers of the same series.
 *
 * Scan. From a sound head the next record is `total` bytes on, whatever its body looks like. From
 * anything else it is the next page: a write starts at a page, so what follows a hole is found
 * again. Bytes that look like a record but are a client's payload do not check: sums are seeded with
 * the segment's salt (segment.c).
 *
 * Torn or damaged? What was not synced is missing in whole sectors, and a new file holds zeros there;
 * a block of 64 bytes lies in one sector. So a head, mark or note of zeros was never promised to
 * anybody and is passed over. Bytes that stand where a record must begin (right behind a sound one)
 * and are neither sound nor zero were written and went bad, and may hide the newest value of an id,
 * or a deletion: an older value must not come back for it. One flipped bit is put right, by trying
 * each against the sum (512 sums of 64 bytes; a wrong one fits once in 2^55); so we learn whose
 * record it is. The record itself stays as it lies: a value among them stands for the note that it is
 * gone, a note counts. What cannot be put right is doubt.
 *
 * Doubt. A file that cannot be read, or a place in one, may have held the newest value of anything
 * older than the next file's `since` (the number given last when that file was made): all of that is
 * dropped, a miss where there could have been an answer. So is what a WIPE note covers. A file with
 * such a place gets no footer, or the next start would know nothing of it.
 *
 * What is trusted after this: that a row's place is one that a writer chose. That the bytes there
 * are right is checked when they are read.
 */
#include "store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define WINDOW    LR_MIB(1)
#define ROWS_MAX  LR_MIB(64)
#define SECTOR    512
#define MEND_MAX  LR_KIB(4) /* of an object's header: 10 ms of sums */
#define NUMBERS   (1u << 20) /* segments in a directory */
#define DOUBT_GAP (1ull << 40) /* numbers: more than one file ever held */

/* ---- walking one segment ---- */

/* Bytes of a file, as far as they were read. */
struct window {
    void *base;
    uint8_t *p;
    size_t cap, n;
    uint64_t at; /* offset of p[0] */
};

/* Makes [off, off + n) readable at *out; n + a page fits, the window grows if it must. */
static int look_at(struct lr_disk *d, struct lr_segment *g, struct window *w, uint64_t off,
                   size_t n, const uint8_t **out)
{
    if (off < w->at || off + n > w->at + w->n) {
        uint64_t from = off / LR_VFS_ALIGN * LR_VFS_ALIGN;
        size_t need = (size_t)lr_round_up(off + n - from, LR_VFS_ALIGN);
        if (need > w->cap) {
            lr_free(w->base);
            *w = (struct window){0};
            size_t cap = need > WINDOW ? need : WINDOW;
            w->p = lr_pages(cap, &w->base);
            LR_FAIL_IF(!w->p, LR_ENOMEM);
            w->cap = cap;
        }
        size_t left = (size_t)(lr_round_up(g->size, LR_VFS_ALIGN) - from);
        w->n = 0;
        LR_TRY(d->vfs->pread(g->file, w->p, w->cap < left ? w->cap : left, from));
        w->n = w->cap < left ? w->cap : left;
        w->at = from;
        d->recover_bytes += w->n;
    }
    *out = w->p + (off - w->at);
    return 0;
}

static struct lr_row row_of(const struct lr_record *r, uint64_t off, const struct lr_object *o)
{
    return (struct lr_row){.type = r->type,
                           .off = off,
                           .total = r->total,
                           .seq = r->seq,
                           .id = r->id,
                           .value = r->value,
                           .head = r->head,
                           .o = *o};
}

/* A value that is damaged, but whose header says whose it was: nothing older of that id may come back. */
static bool gone_of(const struct lr_record *r, const uint8_t *head, struct lr_row *row)
{
    struct lr_object o;
    if (lr_object_decode(head, r->head, &o, NULL))
        return false;
    *row = (struct lr_row){.type = LR_RECORD_GONE,
                           .off = row->off,
                           .total = LR_RECORD_NOTE,
                           .seq = r->seq,
                           .id = o.id};
    return true;
}

/* What stands where a record may begin. */
enum place { SOUND, MENDED, TORN, BAD };

static enum place place_of(const uint8_t *p, uint64_t salt, struct lr_record *r)
{
    uint8_t head[LR_RECORD_HEAD];
    if (!lr_record_head(p, salt, r))
        return SOUND;
    if (lr_blank(p, LR_RECORD_HEAD))
        return TORN;
    memcpy(head, p, sizeof head);
    return lr_block_mend(head, salt) && !lr_record_head(head, salt, r) ? MENDED : BAD;
}

/* A note with one bit wrong anywhere. */
static enum place mend_note(const uint8_t *p, uint64_t salt, struct lr_record *r, struct lr_row *row)
{
    uint8_t note[LR_RECORD_NOTE];
    struct lr_object none;
    const uint8_t *body = p + LR_RECORD_HEAD, *mark = p + LR_RECORD_NOTE - LR_RECORD_MARK;
    if (lr_blank(mark, LR_RECORD_MARK) || (r->type != LR_RECORD_WIPE && lr_blank(body, 64)))
        return TORN;
    memcpy(note, p, sizeof note);
    if (!lr_note_mend(note, salt) || lr_record_check(note, salt, false, r, &none))
        return BAD;
    *row = row_of(r, row->off, &none);
    return MENDED;
}

/* An object whose header has one bit wrong: whose was it? */
static enum place mend_object(const uint8_t *head, const struct lr_record *r, struct lr_row *row)
{
    uint64_t begin = row->off + LR_RECORD_HEAD, end = begin + r->head, to;
    for (uint64_t at = begin; at < end; at = to) {
        to = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;
        if (lr_blank(head + (at - begin), (size_t)(to - at)))
            return TORN;
    }
    uint8_t *copy = r->head <= MEND_MAX ? lr_alloc(r->head) : NULL;
    if (!copy)
        return BAD;
    memcpy(copy, head, r->head);
    bool mended = lr_object_mend(copy, r->head) && gone_of(r, copy, row);
    lr_free(copy);
    return mended ? MENDED : BAD;
}

/* A record at p, all of it, that does not check or whose head was put right. MENDED: *row says what is
 * left of it. */
static enum place salvage(const uint8_t *p, uint64_t salt, struct lr_record *r, struct lr_row *row)
{
    if (r->type != LR_RECORD_OBJECT)
        return mend_note(p, salt, r, row);
    const uint8_t *head = p + LR_RECORD_HEAD;
    return gone_of(r, head, row) ? MENDED : mend_object(head, r, row);
}

/* Does a footer begin here, whose end was lost? Its rows speak of what lies before them. */
static bool rows_begin(struct lr_disk *d, struct lr_segment *g, struct window *w, uint64_t off)
{
    size_t n = g->size - off < 2 * LR_VFS_ALIGN ? (size_t)(g->size - off) : 2 * LR_VFS_ALIGN;
    const uint8_t *p;
    struct lr_row row;
    if (off % LR_VFS_ALIGN || look_at(d, g, w, off, n, &p))
        return false;
    struct lr_str rest = lr_str(p, n);
    return lr_row_next(&rest, &row) == 1 && row.off < off && row.total <= off - row.off;
}

struct scan {
    struct lr_disk *disk;
    struct lr_segment *seg;
    struct window *w;
    int (*fn)(void *, const struct lr_row *);
    void *arg;
    bool *doubt;
    bool follows; /* a record must begin here, if anything was written here */
    bool lost;
};

/* Takes the record at *off, or passes over what is there. */
static int scan_one(struct scan *c, uint64_t *off, uint64_t end)
{
    struct lr_segment *g = c->seg;
    uint64_t salt = g->info.salt;
    const uint8_t *p;
    struct lr_record r;
    LR_TRY(look_at(c->disk, g, c->w, *off, LR_RECORD_HEAD, &p));
    enum place place = place_of(p, salt, &r);
    if (place == TORN || place == BAD || r.total > end - *off) {
        if (!c->lost)
            lr_count(c->disk->store, LR_STORE_RECOVER_SKIPPED);
        if (place == BAD && c->follows && !rows_begin(c->disk, g, c->w, *off))
            *c->doubt = true;
        c->lost = true;
        c->follows = false;
        *off = (*off / LR_VFS_ALIGN + 1) * LR_VFS_ALIGN;
        return 0;
    }
    c->lost = false;
    c->follows = true;
    uint64_t at = *off;
    *off += r.total;
    if (r.type == LR_RECORD_PAD)
        return 0;
    struct lr_object o = {0};
    LR_TRY(look_at(c->disk, g, c->w, at, (size_t)r.total, &p));
    int bad = place == MENDED ? LR_ECORRUPT : lr_record_check(p, salt, true, &r, &o);
    struct lr_row row = row_of(&r, at, &o);
    if (bad) {
        lr_count(c->disk->store, LR_STORE_RECOVER_SKIPPED);
        place = salvage(p, salt, &r, &row);
        *c->doubt = *c->doubt || place == BAD;
    }
    return !bad || place == MENDED ? c->fn(c->arg, &row) : 0;
}

/* Where records end, when the foot says so though its rows are bad. */
static int end_of_records(struct scan *c, uint64_t *end)
{
    struct lr_segment *g = c->seg;
    uint8_t foot[LR_SEGMENT_FOOT];
    const uint8_t *p;
    struct lr_foot f;
    *end = g->size;
    if (g->size < 2 * LR_SEGMENT_HEAD || g->size % LR_VFS_ALIGN)
        return 0;
    LR_TRY(look_at(c->disk, g, c->w, g->size - sizeof foot, sizeof foot, &p));
    memcpy(foot, p, sizeof foot);
    if (!lr_block_mend(foot, g->info.salt) || lr_foot_read(foot, g->info.salt, &f))
        return 0;
    if (f.end >= LR_SEGMENT_HEAD && f.end <= g->size)
        *end = f.end;
    return 0;
}

static int scan(struct scan *c)
{
    uint64_t off = LR_SEGMENT_HEAD, end;
    LR_TRY(end_of_records(c, &end));
    while (off + LR_RECORD_HEAD <= end)
        LR_TRY(scan_one(c, &off, end));
    return 0;
}

/* The rows of a sound footer, in w. LR_ENOENT: there is none. */
static int find_rows(struct lr_disk *d, struct lr_segment *g, struct window *w,
                     struct lr_foot *foot, struct lr_str *rows)
{
    const uint8_t *p;
    LR_FAIL_IF(g->size < 2 * LR_SEGMENT_HEAD || g->size % LR_VFS_ALIGN, LR_ENOENT);
    LR_TRY(look_at(d, g, w, g->size - LR_SEGMENT_FOOT, LR_SEGMENT_FOOT, &p));
    LR_FAIL_IF(lr_foot_read(p, g->info.salt, foot), LR_ENOENT);
    LR_FAIL_IF(foot->end < LR_SEGMENT_HEAD || foot->end > g->size || foot->rows > ROWS_MAX ||
                   foot->rows > g->size - foot->end,
               LR_ENOENT);
    LR_TRY(look_at(d, g, w, foot->end, (size_t)foot->rows, &p));
    *rows = lr_str(p, (size_t)foot->rows);
    LR_FAIL_IF(lr_hash64(*rows, g->info.salt) != foot->sum, LR_ENOENT);
    return 0;
}

int lr_segment_walk(struct lr_disk *d, struct lr_segment *g,
                    int (*fn)(void *arg, const struct lr_row *), void *arg, bool *doubt)
{
    struct window w = {0};
    struct scan c = {
        .disk = d, .seg = g, .w = &w, .fn = fn, .arg = arg, .doubt = doubt, .follows = true};
    struct lr_foot foot;
    struct lr_str rows;
    struct lr_row row;
    int rc = find_rows(d, g, &w, &foot, &rows);
    if (rc == LR_ENOENT) {
        g->footed = false;
        rc = scan(&c);
    } else if (!rc) {
        g->footed = true;
        int more;
        while (!rc && (more = lr_row_next(&rows, &row)) != 0) {
            bool inside = more > 0 && row.off >= LR_SEGMENT_HEAD && row.off <= foot.end &&
                          row.total <= foot.end - row.off;
            rc = inside ? fn(arg, &row) : LR_ECORRUPT;
        }
    }
    lr_free(w.base);
    return rc;
}

int lr_segment_foot(struct lr_disk *d, struct lr_segment *g, struct lr_str rows)
{
    size_t n = (size_t)lr_round_up(rows.n + LR_SEGMENT_FOOT, LR_VFS_ALIGN);
    void *base;
    uint8_t *p = lr_pages(n, &base);
    LR_FAIL_IF(!p, LR_ENOMEM);
    memset(p, 0, n);
    if (rows.n)
        memcpy(p, rows.p, rows.n);
    uint64_t end = lr_round_up(g->size, LR_VFS_ALIGN);
    lr_foot_write(g->info.salt, end, rows, p + n - LR_SEGMENT_FOOT);
    int rc = d->vfs->pwrite(g->file, p, n, end);
    if (!rc) {
        g->size = end + n;
        rc = d->vfs->sync(g->file);
    }
    lr_free(base);
    return rc;
}

/* ---- filling the index ---- */

struct filling {
    struct lr_disk *disk;
    struct lr_segment *seg;
    struct lr_buf rows; /* for a footer, when there was none */
    uint64_t max_seq;
    uint64_t wiped; /* all up to this number is dead */
    bool doubt;     /* a file before this one could not be read: what it held is not known */
};

static int take_object(struct filling *f, struct lr_shard *sh, struct lr_entry *e,
                       const struct lr_row *row)
{
    struct lr_store *s = f->disk->store;
    if (e->seg && e->seq >= row->seq)
        return 0;
    uint64_t noted = e->expires_ms;
    LR_TRY(lr_entry_describe_locked(s, sh, e, &row->o, row->head));
    if (e->expire_seq > row->seq)
        e->expires_ms = noted;
    if (row->o.kind == LR_OBJECT_OPAQUE && row->o.epoch > s->spaces[e->space].epoch)
        s->spaces[e->space].epoch = row->o.epoch; /* its note was lost, what came after was not */
    lr_leave_disk_locked(s, sh, e);
    e->seq = row->seq;
    lr_enter_disk_locked(s, sh, e, f->seg, row->off);
    return 0;
}

static void take_note(struct filling *f, struct lr_shard *sh, struct lr_entry *e,
                      const struct lr_row *row)
{
    if (row->type == LR_RECORD_GONE && row->seq > e->gone_seq)
        e->gone_seq = row->seq;
    if (row->type == LR_RECORD_PIN && row->seq > e->pin_seq) {
        e->pin_seq = row->seq;
        lr_set_pin_locked(f->disk->store, sh, e, row->value);
    }
    if (row->type == LR_RECORD_EXPIRE && row->seq > e->expire_seq) {
        e->expire_seq = row->seq;
        if (row->seq > e->seq)
            e->expires_ms = row->value;
    }
}

static int take_epoch(struct lr_store *s, const struct lr_row *row)
{
    uint16_t i;
    LR_TRY(lr_space_by_id(s, &row->id, &i));
    struct lr_space *space = &s->spaces[i];
    if (row->value > space->epoch && row->value <= UINT32_MAX)
        space->epoch = (uint32_t)row->value;
    if (row->seq > space->seq)
        space->seq = row->seq;
    return 0;
}

static int take_row(void *arg, const struct lr_row *row)
{
    struct filling *f = arg;
    struct lr_store *s = f->disk->store;
    if (row->seq > f->max_seq)
        f->max_seq = row->seq;
    if (!f->seg->footed)
        (void)lr_row_add(&f->rows, row); /* rows.rc keeps the failure: then no footer */
    if ((row->type == LR_RECORD_OBJECT || row->type == LR_RECORD_PIN) && row->seq < f->seg->min_seq)
        f->seg->min_seq = row->seq;
    if (row->type == LR_RECORD_WIPE) {
        f->wiped = row->seq > f->wiped ? row->seq : f->wiped;
        return 0;
    }
    if (row->type == LR_RECORD_EPOCH)
        return take_epoch(s, row);
    struct lr_shard *sh = lr_shard_of(s, &row->id);
    int rc = LR_ENOMEM;
    pthread_mutex_lock(&sh->mu);
    struct lr_entry *e = lr_entry_locked(s, sh, &row->id);
    if (e && row->type == LR_RECORD_OBJECT)
        rc = take_object(f, sh, e, row);
    else if (e)
        take_note(f, sh, e, row);
    pthread_mutex_unlock(&sh->mu);
    return e && row->type != LR_RECORD_OBJECT ? 0 : rc;
}

/* The process or the machine died before the first sync: nobody was promised what it held. */
static bool is_blank(const uint8_t *p, uint64_t size)
{
    return size < LR_SEGMENT_HEAD || lr_blank(p, LR_SEGMENT_HEAD);
}

/* Head and size. LR_ENOENT: there never was one. */
static int read_head(struct lr_disk *d, struct lr_segment *g)
{
    void *base;
    uint8_t *p = lr_pages(LR_SEGMENT_HEAD, &base);
    LR_FAIL_IF(!p, LR_ENOMEM);
    struct lr_segment_info info = {0};
    int rc = d->vfs->size(g->file, &g->size);
    if (!rc)
        rc = d->vfs->pread(g->file, p, LR_SEGMENT_HEAD, 0);
    if (!rc)
        rc = is_blank(p, g->size) ? LR_ENOENT : lr_segment_head_read(p, &info);
    if (!rc && info.number != g->info.number)
        rc = LR_ECORRUPT;
    lr_free(base);
    LR_TRY(rc);
    g->info = info;
    return 0;
}

/* What a file held that cannot be read is not known, but that it was given numbers no greater than
 * `upto`: any of the objects up to there may be an older value of something. */
static void resolve_doubt(struct filling *f, uint64_t upto)
{
    if (!f->doubt)
        return;
    f->doubt = false;
    f->wiped = upto > f->wiped ? upto : f->wiped;
    lr_log(LR_LOG_WARN, "store", "event=doubt: a segment cannot be read, older objects are dropped");
}

static int recover_one(struct filling *f, uint32_t number)
{
    struct lr_disk *d = f->disk;
    int rc = lr_segment_open(d, number, false, &f->seg);
    if (rc == LR_ENOMEM)
        return rc;
    if (!rc)
        rc = read_head(d, f->seg);
    else
        f->seg = NULL;
    if (rc) {
        /* Blank, damaged, of another version, or unreadable: not ours to delete, and its number is
         * not given again. */
        lr_count(d->store, LR_STORE_RECOVER_SKIPPED);
        f->doubt = f->doubt || rc != LR_ENOENT;
        if (rc != LR_ENOENT)
            d->ghost_seq = 0; /* it may be read again one day: no note is dispensable until then */
        lr_segment_unref(d, f->seg);
        return rc == LR_ENOMEM ? rc : 0;
    }
    lr_segment_list(d, f->seg); /* entries point to it from here on */
    resolve_doubt(f, f->seg->info.since);
    f->max_seq = f->seg->info.since > f->max_seq ? f->seg->info.since : f->max_seq;
    lr_buf_reset(&f->rows);
    bool doubt = false;
    rc = lr_segment_walk(d, f->seg, take_row, f, &doubt);
    if (rc || doubt) {
        lr_count(d->store, LR_STORE_RECOVER_SKIPPED);
        f->doubt = true;
        f->seg->min_seq = 0; /* what it holds is not all known */
    }
    if (!rc && !doubt && !f->seg->footed && !f->rows.rc)
        f->seg->footed = !lr_segment_foot(d, f->seg, lr_buf_str(&f->rows)); /* else next time */
    f->seg->sealed = true;
    atomic_fetch_add(&d->bytes, f->seg->size);
    return rc == LR_ENOMEM ? rc : 0;
}

/* ---- the directory ---- */

struct names {
    uint32_t *number;
    size_t n, cap;
    bool full;
};

static void take_name(void *arg, const char *name)
{
    struct names *l = arg;
    uint8_t be[4];
    if (strlen(name) != 12 || strcmp(name + 8, ".seg") || lr_unhex(lr_str(name, 8), be, 4))
        return;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        uint32_t *more = cap > NUMBERS ? NULL : lr_realloc(l->number, cap * sizeof *more);
        l->full = l->full || !more;
        if (!more)
            return;
        l->number = more;
        l->cap = cap;
    }
    l->number[l->n++] = (uint32_t)be[0] << 24 | (uint32_t)be[1] << 16 | (uint32_t)be[2] << 8 | be[3];
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int lr_recover(struct lr_disk *d)
{
    struct names l = {0};
    struct filling f = {.disk = d};
    lr_buf_init(&f.rows, ROWS_MAX);
    int rc = d->vfs->list(d->vfs, d->dir, take_name, &l);
    if (!rc && l.full)
        rc = LR_ENOMEM;
    if (l.n)
        qsort(l.number, l.n, sizeof l.number[0], ascending);
    for (size_t i = 0; i < l.n && !rc; i++) {
        d->last = l.number[i];
        rc = recover_one(&f, l.number[i]);
    }
    lr_free(l.number);
    lr_buf_free(&f.rows);
    LR_TRY(rc);
    if (f.doubt) { /* the newest file: nothing bounds what it held */
        resolve_doubt(&f, f.max_seq);
        f.max_seq += DOUBT_GAP;
    }
    atomic_store(&d->store->seq, f.max_seq);
    lr_index_settle(d->store, f.wiped);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0
 * answer/mdbcheck.c - reads an LMDB file as LMDB would, but through pread and believing nothing.
 *
 *   page 0, 1   meta: the newer one names the roots of two trees and the last page in use
 *   free tree   transaction -> list of page numbers that may be written over
 *   main tree   name -> tree (root, depth, counts), for each named database
 *   pages       header 16 | offsets of nodes, growing up | free | nodes, growing down
 *
 * LMDB maps its file and follows the page numbers and offsets it finds there; a flipped bit in one
 * of them is a wild read or a failed assertion, and either ends the process. So the whole structure
 * is walked once before LMDB opens it: every page that can be reached carries its own number and
 * one known type, every offset and node lies within its page, nodes fill their page exactly as LMDB
 * packs them, keys ascend, depths and counts agree with what the tree says about itself, no page is
 * reached twice, and no page is both in use and free. Contents of documents are not read (their
 * sums are checked at each load): a big document costs its first page, a small one its leaf.
 *
 * Only what our files hold is accepted: no duplicates, no fixed-size leaves, 64-bit, 4 KiB to 64
 * KiB pages. Anything else is damage, or a foreign file.
 *
 * Cost: one pread a page of the trees, one bit a page of memory. Trees are walked in the order of
 * their keys, which is no order on disk: the kernel is asked to read the file ahead, all of it.
 *
 * Source: the layout as described in LMDB 0.9's own documentation comments (struct MDB_page,
 * MDB_node, MDB_db, MDB_meta); written from that description.
 */
#include "answer/answer_int.h"

#include <fcntl.h>

#define META_MAGIC   0xBEEFC0DEu
#define META_VERSION 1u
#define META_SIZE    152 /* header, magic to transaction id */
#define NO_PAGE      UINT64_MAX
#define DEPTH_MAX    32 /* LMDB's own bound on a cursor's stack */
#define PAGE_MAX     65536u
#define KEY_MAX      511u
#define SLACK        4096u /* pages */
#define HEAD         16u
#define NODE         8u

enum { P_BRANCH = 1, P_LEAF = 2, P_OVERFLOW = 4, P_META = 8 };
enum { NODE_BIG = 1, NODE_DB = 2 };
/* The free tree's flags: integer keys, and what the file was opened with: not a directory. Others
 * change how LMDB maps the file. */
enum { FREE_TREE_FLAGS = 0x8, NO_SUBDIR = 0x4000 };
enum kind { FREE_TREE, MAIN_TREE, NAMED_TREE };

struct tree {
    uint64_t branches, leaves, overflows, entries, root;
    uint16_t flags, depth;
};

struct check {
    int fd;
    uint32_t page_size;
    uint64_t last_page;
    uint64_t pages; /* whole ones in the file */
    uint64_t txn;
    uint8_t *seen; /* one bit a page: reached, or free */
};

/* A page in memory, its header taken apart. */
struct page {
    const uint8_t *p;
    unsigned n; /* nodes */
    bool leaf;
};

struct node {
    const uint8_t *key, *data;
    size_t key_n, data_n; /* data_n: of the value, wherever it lies */
    uint64_t child;       /* branch, or first page of a big value */
    unsigned flags;
};

static struct tree read_tree(const uint8_t *p)
{
    return (struct tree){.flags = lr_le16(p + 4),
                         .depth = lr_le16(p + 6),
                         .branches = lr_le64(p + 8),
                         .leaves = lr_le64(p + 16),
                         .overflows = lr_le64(p + 24),
                         .entries = lr_le64(p + 32),
                         .root = lr_le64(p + 40)};
}

/* Marks n pages from `page` on; each only once. */
static int mark(struct check *c, uint64_t page, uint64_t n)
{
    LR_FAIL_IF(page < 2 || n == 0 || page > c->last_page || n - 1 > c->last_page - page,
               LR_ECORRUPT);
    for (uint64_t i = page; i < page + n; i++) {
        uint8_t bit = (uint8_t)(1u << (i % 8));
        LR_FAIL_IF(c->seen[i / 8] & bit, LR_ECORRUPT);
        c->seen[i / 8] |= bit;
    }
    return 0;
}

static uint64_t offset_of(const struct check *c, uint64_t page)
{
    return page * c->page_size; /* page <= last_page, which is bounded by the file's size */
}

/* ---- pages and nodes ---- */

static size_t node_size(const struct node *n, bool leaf)
{
    size_t data = !leaf ? 0 : n->flags & NODE_BIG ? 8 : n->data_n;
    return (NODE + n->key_n + data + 1) & ~(size_t)1;
}

/* Node i; its bytes lie within the page. */
static int read_node(const struct check *c, const struct page *pg, unsigned i, struct node *out)
{
    size_t at = lr_le16(pg->p + HEAD + 2 * i), upper = lr_le16(pg->p + 14);
    LR_FAIL_IF(at < upper || at + NODE > c->page_size || at % 2, LR_ECORRUPT);
    const uint8_t *p = pg->p + at;
    uint64_t low = lr_le16(p), high = lr_le16(p + 2), flags = lr_le16(p + 4);
    struct node n = {.key = p + NODE, .key_n = lr_le16(p + 6)};
    LR_FAIL_IF(n.key_n > KEY_MAX, LR_ECORRUPT);
    n.data = n.key + n.key_n;
    if (pg->leaf) {
        n.flags = (unsigned)flags;
        n.data_n = (size_t)(low | high << 16);
        LR_FAIL_IF(flags & ~(uint64_t)(NODE_BIG | NODE_DB), LR_ECORRUPT);
        LR_FAIL_IF(n.data_n > UINT32_MAX / 2, LR_ECORRUPT);
    } else {
        n.child = low | high << 16 | flags << 32;
    }
    LR_FAIL_IF(at + node_size(&n, pg->leaf) > c->page_size, LR_ECORRUPT);
    if (n.flags & NODE_BIG)
        n.child = lr_le64(n.data);
    *out = n;
    return 0;
}

static int read_page(const struct check *c, uint64_t number, uint8_t *buf, struct page *out)
{
    LR_TRY(lr_io_pread(c->fd, buf, c->page_size, offset_of(c, number)));
    unsigned flags = lr_le16(buf + 10), lower = lr_le16(buf + 12), upper = lr_le16(buf + 14);
    LR_FAIL_IF(lr_le64(buf) != number || (flags != P_BRANCH && flags != P_LEAF), LR_ECORRUPT);
    LR_FAIL_IF(lower < HEAD || lower % 2 || lower > upper || upper > c->page_size, LR_ECORRUPT);
    *out = (struct page){.p = buf, .n = (lower - HEAD) / 2, .leaf = flags == P_LEAF};
    LR_FAIL_IF(out->n < (out->leaf ? 1u : 2u), LR_ECORRUPT);
    return 0;
}

static int cmp_keys(enum kind kind, const struct node *a, const struct node *b)
{
    if (kind == FREE_TREE) {
        uint64_t x = lr_le64(a->key), y = lr_le64(b->key);
        return (x > y) - (x < y);
    }
    return lr_str_cmp(lr_str(a->key, a->key_n), lr_str(b->key, b->key_n));
}

/* Keys of a page: of a sound length, ascending; the first of a branch stands for "anything less".
 * Nodes fill the page from its end to `upper` without a gap. */
static int check_nodes(const struct check *c, enum kind kind, const struct page *pg)
{
    struct node last = {0};
    size_t filled = 0;
    for (unsigned i = 0; i < pg->n; i++) {
        struct node n;
        LR_TRY(read_node(c, pg, i, &n));
        filled += node_size(&n, pg->leaf);
        if (!pg->leaf && i == 0)
            continue;
        LR_FAIL_IF(kind == FREE_TREE ? n.key_n != 8 : n.key_n == 0, LR_ECORRUPT);
        if (last.key)
            LR_FAIL_IF(cmp_keys(kind, &last, &n) >= 0, LR_ECORRUPT);
        last = n;
    }
    return filled == c->page_size - lr_le16(pg->p + 14) ? 0 : LR_ECORRUPT;
}

/* ---- values ---- */

/* A value with pages of its own: as many as it needs, or more where it replaced a longer one. */
static int check_big(struct check *c, const struct node *n, struct tree *sum)
{
    uint8_t head[HEAD];
    LR_FAIL_IF(n->child >= c->pages, LR_ECORRUPT);
    LR_TRY(lr_io_pread(c->fd, head, sizeof head, offset_of(c, n->child)));
    LR_FAIL_IF(lr_le64(head) != n->child || lr_le16(head + 10) != P_OVERFLOW, LR_ECORRUPT);
    uint64_t pages = lr_le32(head + 12),
             need = ((uint64_t)n->data_n + HEAD + c->page_size - 1) / c->page_size;
    LR_FAIL_IF(pages < need || need > c->pages - n->child, LR_ECORRUPT);
    sum->overflows += pages;
    return mark(c, n->child, pages);
}

static int check_list(struct check *c, const uint8_t *list, size_t n)
{
    LR_FAIL_IF(n < 8 || n % 8, LR_ECORRUPT);
    uint64_t count = lr_le64(list);
    LR_FAIL_IF(count > n / 8 - 1, LR_ECORRUPT);
    for (uint64_t i = 1; i <= count; i++)
        LR_TRY(mark(c, lr_le64(list + 8 * i), 1));
    return 0;
}

/* A record of the free tree: [count, pages...]. */
static int check_free(struct check *c, const struct node *n)
{
    LR_FAIL_IF(lr_le64(n->key) > c->txn, LR_ECORRUPT);
    if (!(n->flags & NODE_BIG))
        return check_list(c, n->data, n->data_n);
    uint8_t *list = lr_alloc(n->data_n);
    LR_FAIL_IF(!list, LR_ENOMEM);
    int rc = lr_io_pread(c->fd, list, n->data_n, offset_of(c, n->child) + HEAD);
    if (!rc)
        rc = check_list(c, list, n->data_n);
    lr_free(list);
    return rc;
}

static int check_tree(struct check *c, enum kind kind, const struct tree *t);

static int check_value(struct check *c, enum kind kind, const struct node *n, struct tree *sum)
{
    if (n->flags & NODE_BIG)
        LR_TRY(check_big(c, n, sum));
    if (kind == FREE_TREE)
        return n->flags & NODE_DB ? LR_ECORRUPT : check_free(c, n);
    if (!(n->flags & NODE_DB))
        return 0;
    LR_FAIL_IF(kind != MAIN_TREE || n->flags & NODE_BIG || n->data_n != 48, LR_ECORRUPT);
    struct tree t = read_tree(n->data);
    return t.flags == 0 ? check_tree(c, NAMED_TREE, &t) : LR_ECORRUPT;
}

/* ---- trees ---- */

/* The subtree below `number`; `levels` of it are left, its own included. Recursion is bounded by
 * levels. */
static int check_page(struct check *c, enum kind kind, uint64_t number, unsigned levels,
                      struct tree *sum)
{
    LR_FAIL_IF(levels == 0, LR_ECORRUPT);
    LR_TRY(mark(c, number, 1));
    uint8_t *buf = lr_alloc(c->page_size);
    LR_FAIL_IF(!buf, LR_ENOMEM);
    struct page pg = {0};
    int rc = read_page(c, number, buf, &pg);
    if (!rc && pg.leaf != (levels == 1))
        rc = LR_ECORRUPT;
    if (!rc)
        rc = check_nodes(c, kind, &pg);
    for (unsigned i = 0; !rc && i < pg.n; i++) {
        struct node n;
        rc = read_node(c, &pg, i, &n);
        if (!rc)
            rc = pg.leaf ? check_value(c, kind, &n, sum)
                         : check_page(c, kind, n.child, levels - 1, sum);
    }
    sum->branches += !pg.leaf;
    sum->leaves += pg.leaf;
    sum->entries += pg.leaf ? pg.n : 0;
    lr_free(buf);
    return rc;
}

static int check_tree(struct check *c, enum kind kind, const struct tree *t)
{
    struct tree sum = {0};
    LR_FAIL_IF(t->depth > DEPTH_MAX || (t->root == NO_PAGE) != (t->depth == 0), LR_ECORRUPT);
    if (t->root != NO_PAGE)
        LR_TRY(check_page(c, kind, t->root, t->depth, &sum));
    bool same = sum.branches == t->branches && sum.leaves == t->leaves &&
                sum.overflows == t->overflows && sum.entries == t->entries;
    return same ? 0 : LR_ECORRUPT;
}

/* ---- the file ---- */

/* One meta page: LR_EVERSION when it is not LMDB's. Offsets are from the start of the page. */
static int check_meta(const uint8_t *p, uint64_t number)
{
    LR_FAIL_IF(lr_le16(p + 10) != P_META || lr_le32(p + 16) != META_MAGIC, LR_EVERSION);
    LR_FAIL_IF(lr_le32(p + 20) != META_VERSION, LR_EVERSION);
    return lr_le64(p) == number ? 0 : LR_ECORRUPT;
}

static int check_trees(struct check *c, const uint8_t *meta)
{
    struct tree free_tree = read_tree(meta + 40), main_tree = read_tree(meta + 88);
    LR_FAIL_IF((free_tree.flags & ~NO_SUBDIR) != FREE_TREE_FLAGS || main_tree.flags != 0,
               LR_ECORRUPT);
    size_t bits = (size_t)(c->last_page / 8 + 1);
    c->seen = lr_calloc(bits, 1);
    LR_FAIL_IF(!c->seen, LR_ENOMEM);
    int rc = check_tree(c, MAIN_TREE, &main_tree);
    if (!rc)
        rc = check_tree(c, FREE_TREE, &free_tree);
    lr_free(c->seen);
    return rc;
}

static int check_file(struct check *c)
{
    uint8_t metas[2][META_SIZE];
    uint64_t size;
    LR_TRY(lr_io_size(c->fd, &size));
    LR_FAIL_IF(size < META_SIZE, LR_EVERSION);
    LR_TRY(lr_io_pread(c->fd, metas[0], META_SIZE, 0));
    LR_TRY(check_meta(metas[0], 0));
    c->page_size = lr_le32(metas[0] + 40);
    bool power = c->page_size && !(c->page_size & (c->page_size - 1));
    LR_FAIL_IF(!power || c->page_size < 4096 || c->page_size > PAGE_MAX, LR_ECORRUPT);
    LR_FAIL_IF(size < 2 * (uint64_t)c->page_size, LR_ECORRUPT);
    LR_TRY(lr_io_pread(c->fd, metas[1], META_SIZE, c->page_size));
    LR_TRY(check_meta(metas[1], 1));
    LR_FAIL_IF(lr_le32(metas[1] + 40) != c->page_size, LR_ECORRUPT);
    const uint8_t *meta = lr_le64(metas[1] + 144) > lr_le64(metas[0] + 144) ? metas[1] : metas[0];
    c->last_page = lr_le64(meta + 136);
    c->txn = lr_le64(meta + 144);
    c->pages = size / c->page_size;
    /* Pages allocated and given up in one transaction are never written: the file may end before
     * the last page by as many, free ones all. */
    LR_FAIL_IF(c->last_page < 1 || c->last_page / 2 > c->pages + SLACK, LR_ECORRUPT);
    return check_trees(c, meta);
}

int lr_mdb_check(const char *path)
{
    struct check c = {.fd = -1};
    LR_TRY(lr_io_open(path, O_RDONLY, 0, &c.fd));
    (void)posix_fadvise(c.fd, 0, 0, POSIX_FADV_WILLNEED); /* advice: without it all is slower */
    int rc = check_file(&c);
    lr_io_close(c.fd);
    return rc;
}

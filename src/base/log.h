/* SPDX-License-Identifier: Apache-2.0
 * base/log.h - logfmt lines on standard error: time, level, module, then event=... pairs.
 *
 *   2026-01-31T12:00:00.123Z info store event=evict tier=mem bytes=8192
 *
 * Message text of users and secrets never go into a log line, at any level; counters come before logs.
 * Lines are cut at 1 KiB; control bytes are replaced by '?'. Thread-safe: one write(2) a line.
 */
#ifndef LR_BASE_LOG_H
#define LR_BASE_LOG_H

#include "base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>

enum lr_log_level { LR_LOG_ERROR, LR_LOG_WARN, LR_LOG_INFO, LR_LOG_DEBUG };

void lr_log_set_level(enum lr_log_level level); /* default: info */
bool lr_log_on(enum lr_log_level level);
void lr_log(enum lr_log_level level, const char *module, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* True at most once in `every_ns` per *last; counts nothing. */
bool lr_log_due(atomic_uint_fast64_t *last, uint64_t every_ns);

/* At most one line per call site in `every_ns`. */
#define LR_LOG_EVERY(every_ns, level, module, ...)                                                 \
    do {                                                                                           \
        static atomic_uint_fast64_t lr_log_last_;                                                  \
        if (lr_log_due(&lr_log_last_, (every_ns)))                                                 \
            lr_log((level), (module), __VA_ARGS__);                                                \
    } while (0)

#endif

/* SPDX-License-Identifier: Apache-2.0
 * base/base.h - the ground floor: what every other module may use. Includes all of base/.
 *
 *   err.h    errors as values            buf.h    bounded byte buffer     json.h    JSON in and out
 *   mem.h    heap door, fault points     arena.h  one-lifetime memory     option.h  the options table
 *   str.h    views, parsers, LE          io.h     files, with faults      metric.h  counters
 *   clock.h  time                        hash.h   xxh3, BLAKE3            thread.h  jobs and pools
 *   rng.h    random numbers              log.h    logfmt lines
 */
#ifndef LR_BASE_BASE_H
#define LR_BASE_BASE_H

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "larder's files and wires are little-endian and read in place: a big-endian port needs lr_le*"
#endif

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/buf.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/rng.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/io.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/option.h"
#include "base/thread.h"

#endif

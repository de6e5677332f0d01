/* The rows of x as products of integers take them: for each group of 32 columns a scale, the largest
   number of the group over the largest integer, and the integers nearest to x / scale. A group with a
   number that is not finite has NaN for its scale, and so for every sum it is part of.

   Groups lie row by row; but those of the first `tiled` rows in tiles: a group of 16 rows after the
   other, so that the 16 rows of a group are neighbours. The last tile is filled up with zeros. In a tile
   int16 are two planes of bytes, [2, 16, 32]: how often 256 goes into them, to the nearest, and what is
   left, signed too.

   Mixed activations are int8; of a row's groups whose scale is above FINE_SHARE of the root mean square of
   the row's scales, what int8 leaves of each number is kept as well: its fine part, integers nearest to
   254 times that over the scale. Of rounding a group to int8 the error goes with its scale, so a few
   groups make most of it. Fine groups of a row lie one after the other, in ascending order, in the room of
   all its groups; they are never in tiles. */
#ifndef UNISONO_ACTIVATIONS_H
#define UNISONO_ACTIVATIONS_H

#include <stdint.h>

#include "../formats.h"

enum {
    TILE_ROWS = 16,
    /* The largest int16 that is used: one of which both planes are signed bytes. */
    MOST_WIDE = 127 * 256,
    /* A fine part has so many steps for one of int8, and ends half a step either way. */
    FINE_STEPS = 254,
    /* Columns of the matrix that are multiplied before the next ones; see unpack.h. */
    DEPTH = 1024,
};

/* Which groups are fine. tests/bench/README.md, Numerics: what is left of the error, by this share. */
#define FINE_SHARE 1.3

typedef struct {
    int64_t rows, K;
    int64_t tiled; /* a multiple of TILE_ROWS, and there may be fewer rows */
    int span; /* columns that share a sum: those that share a weight's scale */
    int zero; /* of the weight's format */
    int is_wide; /* int16 instead of int8 */
    int limit; /* the largest integer */
    const uint16_t *x; /* bf16, x_stride numbers from a row to the next */
    int64_t x_stride;
    int8_t *narrow;  /* [groups, 32]; or */
    int16_t *wide;   /* [groups, 32], but for tiles of four neighbours the even ones, then the odd ones */
    float *scales;   /* [groups] */
    int32_t *starts; /* [groups, 32 / span]: -zero times the sum of the integers */
    float *sums;     /* [groups, 32 / span]: the sum of the integers times their scale */
    /* NULL unless they are mixed; [rows, groups] like those above. */
    int32_t *fine_groups; /* which ones of the row */
    int8_t *fine;
    int16_t *fine_wide; /* where is_wide, instead */
    float *fine_scales;
    int32_t *fine_starts;
    float *fine_sums;
    int32_t *fine_ends; /* [rows, parts of DEPTH columns]: how many fine groups there are up to its end */
} Activations;

/* How many parts of DEPTH columns there are. */
static inline int64_t num_depths(int64_t K)
{
    return (K + DEPTH - 1) / DEPTH;
}

/* Return where a group of a row lies, in groups. */
static inline int64_t place_of(const Activations *a, int64_t row, int64_t group)
{
    const int64_t groups = a->K / GROUP, in_tile = row % TILE_ROWS;
    if (row < a->tiled)
        return (row - in_tile) * groups + group * TILE_ROWS + in_tile;
    return row * groups + group;
}

#endif

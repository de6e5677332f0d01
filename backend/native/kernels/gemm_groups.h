/* What the GEMM by weights in groups shares with a level that multiplies tiles of rows. Included behind
   gemm.h and GROUPS_LEVEL, the level that it is compiled at. */
#ifndef UNISONO_GEMM_GROUPS_H
#define UNISONO_GEMM_GROUPS_H

#include "activations.h"
#include "unpack.h"

/* Where a product finds things. */
typedef struct {
    const uint8_t *unit[VECTORS]; /* of a weight as it is packed */
    const GroupScratch *panel;    /* or unpacked */
    const Activations *a;
    int64_t row, first_group;
    int64_t from, groups; /* of those from the first group on: the first, and the one behind the last */
    int first_vector;
} Operands;

/* How a level multiplies tiles of TILE_ROWS rows by an unpacked panel. A thread calls `begin` before the
   products of a part, and `end` after them. sums: [TILE_ROWS, PANEL], what it was before if it is not
   the first part of K. */
typedef struct {
    void (*begin)(int format);
    void (*multiply)(int format, const Operands *o, int is_first, float *sums);
    void (*end)(void);
} GroupTiles;

/* By the level that compiles it. tiles: NULL where it has none. */
int GROUPS_LEVEL(prepare_groups)(const Gemm *p, const GroupTiles *tiles, Product *product);

#endif

/* What becomes of a GEMM's sums. */
#ifndef UNISONO_EPILOGUE_H
#define UNISONO_EPILOGUE_H

#include "panels.h"

/* The largest features of a row that a thread has met: each lane keeps one, and the column it is in. */
typedef struct {
    float values[LANES];
    int32_t columns[LANES];
} LaneMax;

/* Write the sums of `count` rows from `row` on, [count, PANEL], where p's epilogue wants them. */
void apply_epilogue(const Gemm *p, int64_t row, int64_t count, int64_t panel, const float *sums,
                    int thread);

/* Reduce what any thread has kept of a row, kept[0], kept[M], ..., to its largest value. */
void reduce_lanes(const LaneMax *kept, int64_t M, int threads, float *value, int64_t *id);

#endif

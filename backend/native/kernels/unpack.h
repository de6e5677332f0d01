/* An unpacked panel. K is cut so that it, and the sums that wait for its next part, stay in a core's
   cache. Included behind gemm.h. */
#ifndef UNISONO_UNPACK_H
#define UNISONO_UNPACK_H

enum {
    /* The sums of so many rows wait for the rest of K. */
    MAX_WAITING = 128,
    /* A part has a multiple of as many rows as any level multiplies at once. */
    MAX_BLOCK = 16,
};

/* Values of a panel, a byte each, and its factors, span by span. */
typedef struct {
    uint8_t values[DEPTH / GROUP * STEPS * VECTORS * 64];
    float scales[DEPTH / 16 * PANEL], mins[DEPTH / 16 * PANEL];
    float sums[MAX_WAITING * PANEL], fine_sums[MAX_WAITING * PANEL];
} __attribute__((aligned(64))) GroupScratch;

#endif

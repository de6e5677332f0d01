/* Some lanes of a vector by way of a copy, where no masked load or store has them. */
#ifndef UNISONO_SIMD_TAILS_H
#define UNISONO_SIMD_TAILS_H

SIMD_BEGIN

#define LOAD_SOME(Number, kind) \
    INLINE f32x16 kind##_load_some(const Number *p, int64_t n) \
    { \
        if (n >= LANES) \
            return kind##_load(p); \
        Number lanes[LANES] = {0}; \
        if (n > 0) \
            memcpy(lanes, p, n * sizeof *p); \
        return kind##_load(lanes); \
    }
#define STORE_SOME(Number, kind) \
    INLINE void kind##_store_some(Number *p, int64_t n, f32x16 x) \
    { \
        if (n >= LANES) { \
            kind##_store(p, x); \
            return; \
        } \
        Number lanes[LANES]; \
        kind##_store(lanes, x); \
        if (n > 0) \
            memcpy(p, lanes, n * sizeof *p); \
    }

LOAD_SOME(float, f32)
STORE_SOME(float, f32)
LOAD_SOME(bf16, bf16)
STORE_SOME(bf16, bf16)

#undef LOAD_SOME
#undef STORE_SOME

SIMD_END

#endif

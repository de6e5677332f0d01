/* Products of small integers. A vector of 64 bytes is an i32x16, four bytes a lane: four columns of a
   feature. Included behind avx512.h, avx2.h or portable.h; a level that multiplies bytes in one
   instruction defines HAS_BYTE_PRODUCTS before. */
#ifndef UNISONO_SIMD_BYTES_H
#define UNISONO_SIMD_BYTES_H

SIMD_BEGIN

/* words_and, words_or              bit by bit
   words_left, words_right          every word shifted by a constant; zeros move in
   bytes_lookup                     the numbers of a table of 16 at places below 16
   i32_store_i8                     16 numbers that fit
   dot_bytes                        sums + the four products of each lane, u8 by s8
   dot_words                        sums + the two products of each lane, s16 by s16
   even_bytes, odd_bytes            bytes 0 and 2 of each lane, 1 and 3, as s16
   add_byte_pairs, sum_word_pairs   the same as dot_bytes in two parts: s16 sums of neighbouring
                                    products, which may add up while they fit in 16 bits; their sums */

/* A compiler that adds pairs of terms first, as GCC does with integers, needs more registers than there
   are: this keeps the order. */
#define IN_ORDER(type) \
    INLINE type in_order(type sums) \
    { \
        __asm__("" : "+v"(sums)); \
        return sums; \
    }

#if defined(SIMD_AVX512)

IN_ORDER(__m512i)

INLINE i32x16 words_and(i32x16 a, i32x16 b) { return _mm512_and_si512(a, b); }
INLINE i32x16 words_or(i32x16 a, i32x16 b) { return _mm512_or_si512(a, b); }
INLINE i32x16 words_left(i32x16 a, int n) { return _mm512_slli_epi32(a, n); }
INLINE i32x16 words_right(i32x16 a, int n) { return _mm512_srli_epi32(a, n); }

INLINE i32x16 bytes_lookup(const uint8_t *table, i32x16 places)
{
    const __m128i lanes = _mm_loadu_si128((const __m128i *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(lanes), places);
}

INLINE void i32_store_i8(int8_t *p, i32x16 x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x));
}

#ifdef HAS_BYTE_PRODUCTS
INLINE i32x16 dot_words(i32x16 sums, i32x16 a, i32x16 b) { return _mm512_dpwssd_epi32(sums, a, b); }
INLINE i32x16 dot_bytes(i32x16 sums, i32x16 u, i32x16 s) { return _mm512_dpbusd_epi32(sums, u, s); }
#else
INLINE i32x16 dot_words(i32x16 sums, i32x16 a, i32x16 b)
{
    return in_order(_mm512_add_epi32(sums, _mm512_madd_epi16(a, b)));
}
#endif

INLINE i32x16 add_byte_pairs(i32x16 sums, i32x16 u, i32x16 s)
{
    return in_order(_mm512_add_epi16(sums, _mm512_maddubs_epi16(u, s)));
}

INLINE i32x16 sum_word_pairs(i32x16 sums)
{
    return _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
}

#elif defined(SIMD_AVX2)

#define HALVES(call_low, call_high) ((i32x16){call_low, call_high})

IN_ORDER(__m256i)

INLINE i32x16 words_and(i32x16 a, i32x16 b)
{
    return HALVES(_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high));
}

INLINE i32x16 words_or(i32x16 a, i32x16 b)
{
    return HALVES(_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high));
}

INLINE i32x16 words_left(i32x16 a, int n)
{
    return HALVES(_mm256_slli_epi32(a.low, n), _mm256_slli_epi32(a.high, n));
}

INLINE i32x16 words_right(i32x16 a, int n)
{
    return HALVES(_mm256_srli_epi32(a.low, n), _mm256_srli_epi32(a.high, n));
}

INLINE i32x16 bytes_lookup(const uint8_t *table, i32x16 places)
{
    const __m256i both = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return HALVES(_mm256_shuffle_epi8(both, places.low), _mm256_shuffle_epi8(both, places.high));
}

INLINE void i32_store_i8(int8_t *p, i32x16 x)
{
    /* Packing goes by halves of the registers. */
    const __m256i words = _mm256_packs_epi32(x.low, x.high);
    const __m256i bytes = _mm256_packs_epi16(words, words);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    _mm_storeu_si128((__m128i *)p,
                     _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
}

#ifdef HAS_BYTE_PRODUCTS
INLINE i32x16 dot_words(i32x16 sums, i32x16 a, i32x16 b)
{
    return HALVES(_mm256_dpwssd_avx_epi32(sums.low, a.low, b.low),
                  _mm256_dpwssd_avx_epi32(sums.high, a.high, b.high));
}

INLINE i32x16 dot_bytes(i32x16 sums, i32x16 u, i32x16 s)
{
    return HALVES(_mm256_dpbusd_avx_epi32(sums.low, u.low, s.low),
                  _mm256_dpbusd_avx_epi32(sums.high, u.high, s.high));
}
#else
INLINE i32x16 dot_words(i32x16 sums, i32x16 a, i32x16 b)
{
    return HALVES(in_order(_mm256_add_epi32(sums.low, _mm256_madd_epi16(a.low, b.low))),
                  in_order(_mm256_add_epi32(sums.high, _mm256_madd_epi16(a.high, b.high))));
}
#endif

INLINE i32x16 add_byte_pairs(i32x16 sums, i32x16 u, i32x16 s)
{
    return HALVES(in_order(_mm256_add_epi16(sums.low, _mm256_maddubs_epi16(u.low, s.low))),
                  in_order(_mm256_add_epi16(sums.high, _mm256_maddubs_epi16(u.high, s.high))));
}

INLINE i32x16 sum_word_pairs(i32x16 sums)
{
    const __m256i ones = _mm256_set1_epi16(1);
    return HALVES(_mm256_madd_epi16(sums.low, ones), _mm256_madd_epi16(sums.high, ones));
}

#undef HALVES

#else

#define BY_PARTS(expression) \
    UNROLL \
    for (int i = 0; i < 4; i++) \
        a.part[i] = expression; \
    return a

INLINE i32x16 words_and(i32x16 a, i32x16 b) { BY_PARTS(a.part[i] & b.part[i]); }
INLINE i32x16 words_or(i32x16 a, i32x16 b) { BY_PARTS(a.part[i] | b.part[i]); }
INLINE i32x16 words_left(i32x16 a, int n) { BY_PARTS((i32x4)((u32x4)a.part[i] << n)); }
INLINE i32x16 words_right(i32x16 a, int n) { BY_PARTS((i32x4)((u32x4)a.part[i] >> n)); }

#undef BY_PARTS

INLINE i32x16 bytes_lookup(const uint8_t *table, i32x16 places)
{
    uint8_t bytes[64];
    i32_store(bytes, places);
    for (int i = 0; i < 64; i++)
        bytes[i] = table[bytes[i]];
    return i32_load(bytes);
}

INLINE void i32_store_i8(int8_t *p, i32x16 x)
{
    int32_t words[LANES];
    i32_store(words, x);
    for (int lane = 0; lane < LANES; lane++)
        p[lane] = (int8_t)words[lane];
}

/* Loops of their own, which a compiler vectorises once. */
static __attribute__((noinline)) void add_word_products(int32_t *sums, const int16_t *a,
                                                        const int16_t *b)
{
    for (int lane = 0; lane < LANES; lane++)
        sums[lane] += a[2 * lane] * b[2 * lane] + a[2 * lane + 1] * b[2 * lane + 1];
}

static __attribute__((noinline)) void add_byte_products(int32_t *sums, const uint8_t *u,
                                                        const int8_t *s)
{
    for (int lane = 0; lane < LANES; lane++)
        sums[lane] += u[4 * lane] * s[4 * lane] + u[4 * lane + 1] * s[4 * lane + 1]
                      + u[4 * lane + 2] * s[4 * lane + 2] + u[4 * lane + 3] * s[4 * lane + 3];
}

INLINE i32x16 dot_words(i32x16 sums, i32x16 a, i32x16 b)
{
    int32_t out[LANES];
    int16_t x[2 * LANES], y[2 * LANES];
    i32_store(out, sums);
    i32_store(x, a);
    i32_store(y, b);
    add_word_products(out, x, y);
    return i32_load(out);
}

#define HAS_BYTE_PRODUCTS
INLINE i32x16 dot_bytes(i32x16 sums, i32x16 u, i32x16 s)
{
    int32_t out[LANES];
    uint8_t x[4 * LANES];
    int8_t y[4 * LANES];
    i32_store(out, sums);
    i32_store(x, u);
    i32_store(y, s);
    add_byte_products(out, x, y);
    return i32_load(out);
}

#endif

INLINE i32x16 even_bytes(i32x16 x)
{
    return words_and(x, i32_set1(0x00FF00FF));
}

INLINE i32x16 odd_bytes(i32x16 x)
{
    return words_and(words_right(x, 8), i32_set1(0x00FF00FF));
}

SIMD_END

#endif

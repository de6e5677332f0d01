#include "packing.h"

#include "threads.h"

/* From so many numbers on a second thread pays for being woken. */
enum { PARALLEL_SIZE = 1 << 14 };

int64_t packed_size(int64_t bits, int64_t N, int64_t K)
{
    return (N + LANES - 1) / LANES * (K / GROUP) * block_size((int)bits);
}

SIMD_BEGIN

static void pack_values(const Pack *w, int64_t feature, int64_t column, int64_t count,
                        uint8_t *out)
{
    const int bits = (int)w->bits;
    const uint8_t *bytes = w->values;
    const bf16 *words = w->values;
    uint16_t *halves = (uint16_t *)out;
    for (int64_t lane = 0; lane < count; lane++) {
        const int64_t start = (feature + lane) * w->K + column;
        for (int c = 0; c < GROUP; c++) {
            const int pair = c / 2, half = c % 2;
            if (bits == 16)
                halves[pair * 32 + lane * 2 + half] = words[start + c];
            else if (bits == 8)
                out[pair * 32 + lane * 2 + half] = bytes[start + c];
            else
                halves[pair / 4 * 32 + lane * 2 + half] |= bytes[start + c] << pair % 4 * 4;
        }
    }
}

static void pack_factors(const float *factors, int64_t stride, int64_t count, uint8_t *out)
{
    float lanes[LANES] = {0};
    for (int64_t lane = 0; lane < count; lane++)
        lanes[lane] = factors[lane * stride];
    const __m256i halves = _mm512_cvtps_ph(_mm512_loadu_ps(lanes), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((__m256i *)out, halves);
}

static void pack_column(void *call, int64_t column, int thread)
{
    const Pack *w = call;
    const int bits = (int)w->bits;
    const int64_t groups = w->K / GROUP, size = block_size(bits), feature = column * LANES;
    const int64_t left = w->N - feature, count = left < LANES ? left : LANES;
    for (int64_t group = 0; group < groups; group++) {
        const int64_t place = feature * groups + group;
        uint8_t *block = w->out + (column * groups + group) * size;
        uint8_t *scales = block + values_size(bits);
        pack_values(w, feature, group * GROUP, count, block);
        if (w->bits < 16)
            pack_factors(w->scales + place, groups, count, scales);
        if (w->bits == 4)
            pack_factors(w->mins + place, groups, count, scales + 32);
    }
}

void pack(const Pack *w)
{
    memset(w->out, 0, packed_size(w->bits, w->N, w->K));
    parallel_for((w->N + LANES - 1) / LANES, pack_column, (void *)w);
}

static void embed_8_bits(const uint8_t *block, int64_t lane, bf16 *out)
{
    uint16_t pairs[PAIRS], half;
    for (int i = 0; i < PAIRS; i++)
        memcpy(pairs + i, block + i * 32 + lane * 2, sizeof *pairs);
    memcpy(&half, block + values_size(8) + lane * 2, sizeof half);
    const __m512 scale = _mm512_cvtph_ps(_mm256_set1_epi16((short)half));
    UNROLL
    for (int i = 0; i < 2; i++) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)pairs + i);
        const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
        store_bf16(out + 16 * i, _mm512_mul_ps(values, scale));
    }
}

static void embed_16_bits(const uint8_t *block, int64_t lane, bf16 *out)
{
    for (int i = 0; i < PAIRS; i++)
        memcpy(out + 2 * i, block + i * 64 + lane * 4, 4);
}

static void embed_row(void *call, int64_t row, int thread)
{
    const Embed *e = call;
    const int bits = (int)e->bits;
    const int64_t id = e->ids[row];
    const uint8_t *block = e->packed + id / LANES * (e->K / GROUP) * block_size(bits);
    bf16 *out = e->out + row * e->K;
    for (int64_t column = 0; column < e->K; column += GROUP, block += block_size(bits))
        if (bits == 8)
            embed_8_bits(block, id % LANES, out + column);
        else
            embed_16_bits(block, id % LANES, out + column);
}

int embed(const Embed *e)
{
    for (int64_t i = 0; i < e->num_ids; i++)
        if (e->ids[i] < 0 || e->ids[i] >= e->N)
            return -1;
    parallel_for_if(e->num_ids * e->K > PARALLEL_SIZE, e->num_ids, embed_row, (void *)e);
    return 0;
}

SIMD_END

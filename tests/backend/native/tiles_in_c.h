/* The tiles of simd/tiles.h in plain C, after Intel's manual: palette 1, and an assertion where the
   processor would raise an exception. Included by it, where TILES_IN_C names this file. */
#include <assert.h>
#include <string.h>

enum { TILE_MAX_ROWS = 16, TILE_MAX_ROW_BYTES = 64 };

typedef struct {
    int is_configured;
    TileConfig config;
    uint8_t rows[MAX_TILES][TILE_MAX_ROWS][TILE_MAX_ROW_BYTES];
} TileState;

static _Thread_local TileState tile_state;

static inline void tile_configure(const TileConfig *config)
{
    const uint8_t zeros[16] = {0};
    assert(config->palette == 1 && config->start_row == 0);
    assert(memcmp(config->reserved, zeros, sizeof config->reserved) == 0);
    assert(memcmp(config->reserved_bytes, zeros, sizeof config->reserved_bytes) == 0);
    assert(memcmp(config->reserved_rows, zeros, sizeof config->reserved_rows) == 0);
    for (int tile = 0; tile < MAX_TILES; tile++) {
        assert(config->rows[tile] <= TILE_MAX_ROWS);
        assert(config->row_bytes[tile] <= TILE_MAX_ROW_BYTES);
        assert((config->rows[tile] == 0) == (config->row_bytes[tile] == 0));
    }
    memset(&tile_state, 0, sizeof tile_state);
    tile_state.config = *config;
    tile_state.is_configured = 1;
}

static inline void tile_release(void)
{
    memset(&tile_state, 0, sizeof tile_state);
}

static inline void check_tile(int tile)
{
    assert(tile_state.is_configured && tile >= 0 && tile < MAX_TILES);
    assert(tile_state.config.rows[tile] != 0 && tile_state.config.row_bytes[tile] % 4 == 0);
}

static inline void tile_zero(int tile)
{
    check_tile(tile);
    memset(tile_state.rows[tile], 0, sizeof tile_state.rows[tile]);
}

static inline void tile_load(int tile, const void *address, int64_t stride)
{
    tile_zero(tile);
    for (int row = 0; row < tile_state.config.rows[tile]; row++)
        memcpy(tile_state.rows[tile][row], (const char *)address + row * stride,
               tile_state.config.row_bytes[tile]);
}

static inline void tile_store(int tile, void *address, int64_t stride)
{
    check_tile(tile);
    for (int row = 0; row < tile_state.config.rows[tile]; row++)
        memcpy((char *)address + row * stride, tile_state.rows[tile][row],
               tile_state.config.row_bytes[tile]);
}

static inline void tile_dot_s8_u8(int c, int a, int b)
{
    const TileConfig *config = &tile_state.config;
    assert(c != a && a != b && c != b);
    check_tile(c);
    check_tile(a);
    check_tile(b);
    assert(config->rows[c] == config->rows[a] && config->row_bytes[c] == config->row_bytes[b]);
    assert(config->row_bytes[a] / 4 == config->rows[b]);
    for (int m = 0; m < config->rows[c]; m++)
        for (int n = 0; n < config->row_bytes[c] / 4; n++) {
            int32_t sum;
            memcpy(&sum, &tile_state.rows[c][m][4 * n], sizeof sum);
            for (int k = 0; k < config->row_bytes[a]; k++)
                sum += (int8_t)tile_state.rows[a][m][k]
                       * (int)tile_state.rows[b][k / 4][4 * n + k % 4];
            memcpy(&tile_state.rows[c][m][4 * n], &sum, sizeof sum);
        }
}

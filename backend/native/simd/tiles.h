/* Tiles of AMX: eight registers of up to 16 rows of up to 64 bytes, a thread's own. A number of a tile
   is written as a literal.

     tile_configure   (config): give the tiles their shapes, and zeros
     tile_release     tiles have no shape until they are configured again
     tile_zero        (tile)
     tile_load        (tile, address, bytes from a row to the next); store likewise
     tile_store
     tile_dot_s8_u8   (c, a, b): c[m][n] += the four products of a[m][k] and b[k][n], for each k; rows of
                      c have 32-bit integers, those of a and b four bytes a number

   A compiler without them leaves HAS_TILES undefined. A test names a file that has them in C. */
#ifndef UNISONO_SIMD_TILES_H
#define UNISONO_SIMD_TILES_H

#include <stdint.h>

enum { MAX_TILES = 8 };

/* As ldtilecfg takes it, with palette 1. Of static storage: gcc lets ldtilecfg read eight bytes only,
   and may not have written the others. */
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[MAX_TILES], reserved_bytes[8];
    uint8_t rows[MAX_TILES], reserved_rows[8];
} TileConfig;

_Static_assert(sizeof(TileConfig) == 64, "what ldtilecfg reads");

#ifdef TILES_IN_C

#include TILES_IN_C
#define HAS_TILES
#define TILES_TARGET

#elif (defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11)

#include <immintrin.h>

#define HAS_TILES
#define TILES_TARGET ",amx-tile,amx-int8"

#define tile_configure(config) _tile_loadconfig(config)
#define tile_release() _tile_release()
#define tile_zero(tile) _tile_zero(tile)
#define tile_load(tile, address, stride) _tile_loadd(tile, address, stride)
#define tile_store(tile, address, stride) _tile_stored(tile, address, stride)
#define tile_dot_s8_u8(c, a, b) _tile_dpbsud(c, a, b)

#endif

#endif

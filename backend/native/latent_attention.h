/* Causal attention over a paged cache of compressed rows (DeepSeek-AI 2024, multi-head latent attention). */
#ifndef UNISONO_LATENT_ATTENTION_H
#define UNISONO_LATENT_ATTENTION_H

#include "calls.h"

/* Of a row, at most. */
enum { LATENT_MAX_DIM = 640, LATENT_MAX_VALUE_DIM = 512 };

/* A row is the key of all heads, its first value_dim numbers are the value. Items and merges are those of
   attention.h; an item has at most ATTENTION_MAX_ROWS rows of any number of heads, the kernel takes as
   many heads at a time as there is room for.

     q            [T, H, D] bf16
     cache        [blocks, block size, D] bf16, row after row; block_stride: bytes from a block to the next
     partials     [partials, H, value_dim + 2]
     out          [T, H, value_dim] bf16

   D is even, value_dim and the block size are multiples of 16. Keys are taken in blocks and pieces as
   attention.h has them, so a token has the same bits in any chunk and batch, at every level. */
void LEVEL(latent_attention)(const LatentAttention *a);

#endif

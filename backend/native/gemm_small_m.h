#ifndef UNISONO_GEMM_SMALL_M_H
#define UNISONO_GEMM_SMALL_M_H

#include "gemm.h"

/* Multiply up to MAX_SMALL_M rows, each for itself. Returns -1 if memory ran out, else 0. */
int gemm_small_m(const Gemm *p);

#endif

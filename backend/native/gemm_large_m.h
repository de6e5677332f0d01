#ifndef UNISONO_GEMM_LARGE_M_H
#define UNISONO_GEMM_LARGE_M_H

#include "gemm.h"

/* Multiply any number of rows, each for itself. */
void gemm_large_m(const Gemm *p);

#endif

/* Which kernels serve on this processor. */
#ifndef UNISONO_DISPATCH_H
#define UNISONO_DISPATCH_H

#include "levels/levels.h"

/* Return the kernels of a level that this processor has, the best at place 0; NULL behind the last. */
const Kernels *kernels_at(int place);

#endif

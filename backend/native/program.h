/* A program: calls of kernels, one behind the other, that run without Python between them. */
#ifndef UNISONO_PROGRAM_H
#define UNISONO_PROGRAM_H

#include "dispatch.h"

/* The operations that a program may have. */
int num_operations(void);

/* The name that the operation's kernel has in Python. */
const char *operation_name(int operation);

typedef enum {
    PROGRAM_RAN,
    PROGRAM_IS_NONE, /* an operation that there is not, or a call that is cut off; nothing has run */
    PROGRAM_NO_MEMORY,
} ProgramResult;

/* Run a program by a level's kernels. words: of each call the number of its operation, then its struct of
   calls.h, field by field. What its addresses point to is not checked. */
ProgramResult run_program(const Kernels *kernels, const int64_t *words, int64_t num_words);

#endif

/* What the processor can do, and the system lets it: see levels/ for what each level needs. */
#ifndef UNISONO_PROCESSOR_H
#define UNISONO_PROCESSOR_H

int has_any(void);
#ifdef __x86_64__
int has_avx2(void);
int has_avx_vnni(void);
int has_avx512(void);
int has_avx512_vnni(void);

/* Whether it multiplies pairs of bf16, and sooner than it multiplies their floats; or later. */
int has_fast_avx512_bf16(void);
int has_slow_avx512_bf16(void);

/* On Linux a process asks for the registers of AMX before it uses them; this does. */
int has_amx(void);
#endif

#endif

/* A convolution of each channel by itself over a token and those before it. */
#ifndef UNISONO_CAUSAL_CONV_H
#define UNISONO_CAUSAL_CONV_H

#include "calls.h"

/* More taps than any model has. */
enum { CONV_MAX_TAPS = 8 };

/* out[t] = activation(sum over j of weight[j] * x[t - taps + 1 + j], + bias), in float32, the taps in
   order. x: bf16, x_stride numbers from a token to the next; weight: [taps, channels]; bias: [channels] or
   NULL; out: [tokens, channels], with SiLU if `silu`. state: [slots, taps - 1, channels], the inputs of the
   last tokens, oldest first. Sequence s has segments chains[s] .. chains[s + 1]; segment k runs tokens
   starts[k] .. starts[k + 1]. The first goes on from slot reads[k], or zeros where that is -1, the others
   from the one before; after its last token each writes slot writes[k]. */
void LEVEL(causal_conv)(const CausalConv *a);

#endif

"""The ops in Triton, and what a step on a GPU asks of every op that it runs.

A step's plan reaches the device in one copy; the host goes on to the next step while the device
computes. Steps of decodes alone are captured once for each size as a CUDA graph, and then replayed
over the same addresses (engine/decode_graphs.py): whatever an op does on the host is done at the
capture and never again. So an op, a linear and a layer that runs on a GPU keeps to this:

1. It reads nothing of the device on the host: no item(), tolist(), cpu(), nonzero(), no boolean
   index, no `if tensor`, no print. All of these wait for the device, and end a capture.
2. It makes no tensor on the device out of host data: no torch.tensor(list, device=...). That waits,
   and a graph would keep what the list held at the capture. What layers need (weights, scales,
   tables of pointers) is on the device when the model is loaded; what a step needs is in `Batch`,
   on the device; what only a prompt's step needs goes through ops/upload.py, which does not wait.
3. Shapes and grids follow from shapes of its arguments and from numbers of the host that are the
   size's, never from a value. In a batch that is captured `Batch.query_starts` is 0, 1, .. S, and
   each of `Batch.context_lens` is `Batch.longest`, a bound for every context that will be replayed:
   good for a grid, wrong for a value. Values are `Batch.starts` and `Batch.lens`, on the device. A
   program that finds nothing to do, e.g. behind the end of its sequence, returns.
4. It may allocate outputs and scratch as ever: a graph's come from one pool that all graphs share,
   and lie at the same addresses in each replay. Nothing of them outlives the step; what does (KV
   cache, states, histories, the tokens drawn) is allocated before the capture and written in place.
5. Rows of padding fill a batch up to its size. They have token 0, position 0, no context (`lens`
   0), slots of -1 and tables of block 0; their segments of states read -1 and write -1; their
   sampling row is -1. They write nothing anywhere: a slot, state or row below 0 is left out by a
   mask, not by a clamp. They read no key, and an op returns finite numbers for them (0 where there
   is nothing to divide by), since what is summed over rows, such as the tokens of an expert, must
   not become NaN. A real row's bits do not depend on how many rows of padding stand beside it.
6. It launches on the current stream and makes no stream of its own. It does not free, resize or
   autotune in a step: choices of a kernel's configuration follow from shapes, from a table.
7. It works before the first capture in the same shapes: a size is run once, then captured, so a
   kernel is compiled and a library has its workspace by then.
8. No step waits for a compiler. Triton makes another kernel for each alignment of a pointer and for
   each integer that is 1 or a multiple of 16: a plan's integers lie at any multiple of 4 bytes, and
   tables are as wide as the step needs, so kernels name what is the plan's in do_not_specialize and
   do_not_specialize_on_alignment. A constexpr that follows from a step takes one of a few values.

Sampling runs behind the graph, launched op by op, under rules 1, 2 and 4 to 6 (the host runs a step
ahead of it); a draw's result stays on the device, [N] int32, and the next step's ids are read from
there: a plan's input id of -1 - r means the newest token of sampling row r.
"""

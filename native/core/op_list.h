// The one list of native ops: a row is a pure virtual method of Backend, so a backend that lacks
// one does not compile; lib/op-names.ts holds the same list in the same order, checked at load.
// Each row: inputs -> outputs | attributes. Optional inputs come last, told by a flag attribute.
#pragma once

// Element-wise and fills. `kind` counts the rows of core/pointwise_kinds.h.
//   unary:         x -> y | kind
//   unary_grad:    gradOutput, x or y -> gradInput | kind
//   binary:        lhs, rhs (or one of them) -> out | kind, computed-in dtype, mode, scalar
//   compare:       as binary, out is bool
//                  mode 0 both tensors, 1 rhs is the scalar, 2 lhs is the scalar
//   classify:      x -> bool | 0 isnan, 1 isfinite
//   where:         condition, a?, b? -> out | a is scalar, a value, b is scalar, b value
//   clamp:         x -> y | has min, min, has max, max
//   cast:          x (any strides) -> y of any dtype
//   copy_into:     destination (any strides, written), source (same shape after expand)
//   fill:          destination (any strides, written) | value
//   accumulate:    destination (written), source: destination += source, same shape
//   arange:        -> out | start, step
//   random_uniform, random_normal: -> out | seed, offset, low or mean, high or std
//   random_int:    -> out | seed, offset, low, high
//   dropout:       x -> y, keep mask (bool) | seed, offset, p
//
// Reductions and rows. `dims` is a bit mask over the input's dimensions.
//   sum:           x -> y | dims, factor (1/n makes a mean)
//   variance:      x -> y | dims, correction
//   amax, amin:    x -> y | dims
//   argmax, argmin: x -> int64 | dim (-1: of the flattened input)
//   logsumexp:     x -> y | dims
//   softmax:       x -> y | dim, log flag
//   softmax_grad:  gradOutput, y -> gradInput | dim, log flag
//   layer_norm:    x, weight?, bias? -> y, mean, rstd | row length, eps, has weight, has bias
//   layer_norm_grad: gradOutput, x, mean, rstd, weight? -> gradInput, gradWeight, gradBias
//                  | row length, has weight, gradient wanted: input, weight, bias (an unwanted
//                  output has no elements)
//   rms_norm:      x, weight? -> y, rstd | row length, eps, has weight
//   rms_norm_grad: gradOutput, x, rstd, weight? -> gradInput, gradWeight
//                  | row length, has weight, gradient wanted: input, weight
//   cross_entropy: logits [N, C], target int64 [N] -> loss [N], logsumexp [N] (both float32, or
//                  float64) | ignore index, label smoothing
//   cross_entropy_grad: gradLoss [N], logits, target, logsumexp -> gradLogits | the same two
//   cumsum:        x -> y | dim, reverse flag
//   sort:          x -> values, int64 indices | dim, descending flag (stable)
//   topk:          x -> values, int64 indices | k, dim, largest flag
//   multinomial:   weights [rows, n] -> int64 [rows, samples] | seed, offset, replacement flag
//                  (two random words a sample)
//
// Products.
//   matmul:        lhs [..., M, K], rhs [..., K, N], bias [N]?, aux?, multiplier?, residual?,
//                  destination (written)? -> out [..., M, N] (where there is no destination), aux?,
//                  column sums [N]?
//                  | precision, has bias, lhs transposed, rhs transposed (in memory, the last two
//                  dimensions swapped), flat (leading dimensions are rows, not batches); with an
//                  epilogue (GemmEpilogue; only flat), activation and the sum of: 1 derivative (aux
//                  is an input), 2 aux is an output, 4 has multiplier, 8 has residual, 16 has
//                  column sums, 32 has destination, to which the product is added
//   unfold:        x [N, C, H, W] -> columns [N, C*kh*kw, L] | kh, kw, stride h, w, padding h, w,
//                  dilation h, w
//   fold:          columns -> x (adds overlaps) | the same eight
//   attention:     q [B, H, L, D], k, v [B, H, S, D], mask? (bool: true takes part; else added)
//                  -> out [B, L, H, D], logsumexp [B, H, L] (float32 or float64)
//                  | scale, causal flag, dropout p, seed, offset, has mask, precision
//   attention_grad: gradOutput [B, H, L, D], q, k, v, out [B, H, L, D], logsumexp, mask?
//                  -> gradQ [B, L, H, D], gradK, gradV [B, S, H, D] | the same seven
//
// Indexing. Indices are int64 and checked against the bound; a bad one is an ArgumentError.
//   cat:           tensors... -> out | dim
//   index_select:  x, index [n] -> y | dim
//   index_add:     source, index [n] -> out (zeros where no index points) | dim
//   gather:        x, index -> y | dim
//   scatter_add:   x, index, source -> out | dim
//   embedding:     weight [V, D], ids -> out [..., D]
//   embedding_grad: gradOutput [..., D], ids -> gradWeight [V, D] | padding index (-1: none)
//
// Optimizers: over all parameters in one call. Lists are passed one after the other, each of count
// n; those in brackets only where a flag says so. A master is what the step is computed in, of
// which the parameter becomes the rounded copy; the parameter itself stands where there is none.
// With a gradScale the gradients are divided by it, and left so; where foundInf is not 0 nothing is
// written.
//   adam_step:     params n, grads n, expAvg n, expAvgSq n, step counts (float32 scalars) n,
//                  [maxExpAvgSq n], [master n], [gradScale], [foundInf] -> nothing; all are written
//                  | n, has maxExpAvgSq (amsgrad), has master, has gradScale, has foundInf, groups,
//                  per group: its parameters, lr, beta1, beta2, eps, weight decay, decoupled,
//                  maximize
//   sgd_step:      params n, grads n, [momentum buffers n, step counts n], [master n], [gradScale],
//                  [foundInf] -> nothing; a buffer whose count is 0 becomes the gradient
//                  | n, has momentum, has master, has gradScale, has foundInf, groups,
//                  per group: its parameters, lr, momentum, dampening, weight decay, nesterov,
//                  maximize
//   unscale_grads: grads n (written), scale, foundInf (set to 1 if any is not finite, else left)
//                  | n
//   grad_norm:     grads n -> float32 or float64 scalar
//                  | n, norm type > 0 (infinity: largest absolute value)
//   clip_grads:    grads n (written), total norm (float32 or float64) | n, max norm
//   clamp_grads:   grads n (written) | n, clip value
//   scaler_update: scale, growth tracker (int32), foundInf (all written; foundInf becomes 0)
//                  | growth factor, backoff factor, growth interval, smallest scale
// clang-format off
#define MIXPREC_OPS(X)                                                                             \
  X(unary) X(unary_grad) X(binary) X(compare) X(classify) X(where) X(clamp) X(cast) X(copy_into)   \
  X(fill) X(accumulate) X(arange) X(random_uniform) X(random_normal) X(random_int) X(dropout)      \
  X(sum) X(variance) X(amax) X(amin) X(argmax) X(argmin) X(logsumexp) X(softmax) X(softmax_grad)   \
  X(layer_norm) X(layer_norm_grad) X(rms_norm) X(rms_norm_grad) X(cross_entropy)                   \
  X(cross_entropy_grad) X(cumsum) X(sort) X(topk) X(multinomial)                                   \
  X(matmul) X(unfold) X(fold) X(attention) X(attention_grad)                                       \
  X(cat) X(index_select) X(index_add) X(gather) X(scatter_add) X(embedding) X(embedding_grad)      \
  X(adam_step) X(sgd_step) X(unscale_grads) X(grad_norm) X(clip_grads) X(clamp_grads)              \
  X(scaler_update)
// clang-format on

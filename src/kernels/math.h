// The functions of one float, portable: the oracle of the vector versions, operation by operation.
// Errors against the real function, tested: exp 1 ulp, tanh 2 ulp, erf 2 ulp.
#pragma once

#include "kernels/kernels.h"

namespace rhapsode::kernels {

float exp_f32(float x);
// A weight of attention: exp(x) of x <= 0, but 0 below kWeightLowest.
float weight_f32(float x);
float tanh_f32(float x);
float erf_f32(float x);
// The activation as fp32 arithmetic, before any rounding to the model's type. gelu_new is not one of these:
// see gelu_new_in.
float activation_f32(Activation act, float x);
// transformers' NewGELUActivation evaluated step by step in D, as torch does it: each tensor operation
// rounds.
float gelu_new_in(Dtype D, float x);
// R(act(x))
float activate_in(Activation act, Dtype D, float x);

}  // namespace rhapsode::kernels

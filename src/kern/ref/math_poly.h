/* math_poly.h - the numbers that define exp, tanh, log and erf: one list, used by math.c and by the vector forms.
 * Each polynomial is the Chebyshev (near-minimax) fit of the function named, rounded to float; ascending index = power. */
#ifndef SPARK_KERN_REF_MATH_POLY_H
#define SPARK_KERN_REF_MATH_POLY_H

#define SPARK_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds |x| < 2^22 to an integer, ties to even */

/* exp(r) = 1 + r + r^2 (E2 + E3 r + E4 r^2 + ...), |r| <= ln2 / 2. Below MIN the result is +0, above MAX infinity. */
#define SPARK_EXP_MIN -87.0f
#define SPARK_EXP_MAX 88.72283f /* the last float whose exp is finite */
#define SPARK_LOG2E   1.4426950216293335f
#define SPARK_LN2_HI  0x1.62e4p-1f /* 15 bits: n * LN2_HI is exact */
#define SPARK_LN2_LO  1.428606765330187e-06f
#define SPARK_EXP_E2  0.5f
#define SPARK_EXP_E3  0.16666576266288757f
#define SPARK_EXP_E4  0.041666556149721146f
#define SPARK_EXP_E5  0.008363203145563602f
#define SPARK_EXP_E6  0.0013926213141530752f

/* tanh(x) = x + x^3 (T0 + T1 x^2 + ...) for |x| < MID, else 1 - 2 / (exp(2 |x|) + 1) with the sign of x. */
#define SPARK_TANH_MID 0.625f
#define SPARK_TANH_T0  -0.3333333432674408f
#define SPARK_TANH_T1  0.1333329975605011f
#define SPARK_TANH_T2  -0.053958460688591f
#define SPARK_TANH_T3  0.021762503311038017f
#define SPARK_TANH_T4  -0.0083231870085001f
#define SPARK_TANH_T5  0.0022695017978549004f

/* log(1 + f) = f + f^2 (L0 + L1 f + ...) for f in [-1/3, 1/3]. */
#define SPARK_LOG_L0 -0.5f
#define SPARK_LOG_L1 0.3333333432674408f
#define SPARK_LOG_L2 -0.24999842047691345f
#define SPARK_LOG_L3 0.19999852776527405f
#define SPARK_LOG_L4 -0.16677974164485931f
#define SPARK_LOG_L5 0.142961785197258f
#define SPARK_LOG_L6 -0.12221359461545944f
#define SPARK_LOG_L7 0.1085328757762909f
#define SPARK_LOG_L8 -0.1272628903388977f
#define SPARK_LOG_L9 0.11612164974212646f

/* erf(x) = x + x (S0 + S1 x^2 + ...) for |x| < MID; else 1 - exp(a (B0 + B1 a + ...)), a = min(|x|, MAX). */
#define SPARK_ERF_MID 0.9f
#define SPARK_ERF_MAX 3.95f /* erf is 1 in float from 3.92 on */
#define SPARK_ERF_S0  0.12837916612625122f
#define SPARK_ERF_S1  -0.37612634897232056f
#define SPARK_ERF_S2  0.11283718049526215f
#define SPARK_ERF_S3  -0.026860665529966354f
#define SPARK_ERF_S4  0.0052042268216609955f
#define SPARK_ERF_S5  -0.0008179632131941617f
#define SPARK_ERF_S6  8.529401384294033e-05f
#define SPARK_ERF_B0  -1.1288806200027466f
#define SPARK_ERF_B1  -0.6342254281044006f
#define SPARK_ERF_B2  -0.10774510353803635f
#define SPARK_ERF_B3  0.025055015459656715f
#define SPARK_ERF_B4  -0.004266383126378059f
#define SPARK_ERF_B5  0.0004892201395705342f
#define SPARK_ERF_B6  -3.3059652196243405e-05f
#define SPARK_ERF_B7  9.694429081719136e-07f

/* gelu_tanh(x) = x / (1 + exp(-2 z)), z = sqrt(2 / pi) (x + 0.044715 x^3): the same function as 0.5 x (1 + tanh z). */
#define SPARK_GELU_A  0.044715f
#define SPARK_GELU_2C 1.5957691669464111f /* 2 sqrt(2 / pi) */

#endif
